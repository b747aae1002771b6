// What the matrix instructions of cuda/kernels/ptx.cuh do, written out on the host.
//
// mma: products are exact, their sum with the accumulator is rounded once, toward zero, as Fasi et al. found tensor
// cores to do (Numerical behavior of NVIDIA tensor cores, 2021). tf32 operands lose their lower 13 bits, unrounded.
#pragma once

#include <cstdint>

#include "emulator.h"

namespace emulator {

void load_matrices(uint32_t (&d)[4], const void* row, bool turned, Site site);
void multiply_halves(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], bool bfloat, Site site);
void multiply_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site);
uint32_t to_tf32(float value);
float toward_zero(double exact);  // the float next to a sum, as accumulators take it

}  // namespace emulator
