// What becomes of a sum before it is stored: y = activation(sum + bias + residual).
//
//   silu       v / (1 + exp(-v))
//   hardswish  v * min(max(v + 3, 0), 6) / 6
// NaN passes, as on the CPU (csrc/cpu/kernels/curve).
#pragma once

#include <cmath>

#include "../../csrc/core/algorithm.h"
#include "memory.cuh"

namespace fastconv::cuda {

template <class T>
struct Epilogue {
  const T* bias = nullptr;      // of each channel, or null
  const T* residual = nullptr;  // laid out like the result, or null; may be the result itself
  Activation activation = Activation::none;
};

// T is float or double.
template <class T>
__device__ __forceinline__ T activated(T value, Activation activation) {
  switch (activation) {
    case Activation::none:
      return value;
    case Activation::silu:
      return ptx::quotient(value, T(1) + std::exp(-value));
    case Activation::hardswish: {
      const T gate = value + T(3);
      return value * (gate < T(0) ? T(0) : gate > T(6) ? T(6) : gate) * T(1.0 / 6);
    }
    default:
      if (value < T(0)) return T(0);
      return activation == Activation::relu6 && value > T(6) ? T(6) : value;
  }
}

// The result of a sum at offset `at` of channel `channel`.
template <class T, class Wide>
__device__ __forceinline__ Wide finished(const Epilogue<T>& e, Wide sum, int64_t channel, int64_t at) {
  if (e.bias) sum += static_cast<Wide>(ptx::widen(load_global(e.bias + channel)));
  if (e.residual) sum += static_cast<Wide>(ptx::widen(load_global(e.residual + at)));
  return activated(sum, e.activation);
}

// The operands of a plan that an epilogue reads.
template <class T>
Epilogue<T> epilogue_of(const ConvProblem& p, const ConvOperands& operands) {
  return {static_cast<const T*>(operands.bias), static_cast<const T*>(operands.residual), p.activation};
}

}  // namespace fastconv::cuda
