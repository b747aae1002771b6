// The microkernel tables of one ISA, together.
#pragma once

#include "../../core/dtype.h"
#include "../machine.h"
#include "curve/curve.h"
#include "depthwise/depthwise.h"
#include "dot/dot.h"
#include "gemm/gemm.h"
#include "half/half.h"
#include "indirect/indirect.h"
#include "pack/pack.h"
#include "peak/peak.h"
#include "pool/pool.h"
#include "winograd/winograd.h"

namespace fastconv {

struct Kernels {
  const GemmKernels& gemm;
  const PackKernels& pack;
  const DotKernels& dot;
  const DepthwiseKernels& depthwise;
  const IndirectKernels& indirect;
  const PoolKernels& pool;
  const WinogradKernels& winograd;
  const PeakKernel& peak;
  const CurveKernels& curve;
  const HalfKernels& half;
};

const Kernels& kernels_for(Isa isa);

// The member for T of a table that has f32 and f64.
template <class T, class Table>
const auto& typed(const Table& table) {
  if constexpr (sizeof(T) == 4)
    return table.f32;
  else
    return table.f64;
}

}  // namespace fastconv
