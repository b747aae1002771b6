// Elements of 16 bits to float32 and back.
//
//   widen   to[i] = from[i], exactly
//   narrow  to[i] = from[i], to nearest, ties to even; beyond the largest: infinity; NaN stays one; subnormal numbers
//           of float16 are kept
//
// float16 is IEEE binary16: sign, 5 bits of exponent, 10 of fraction. bfloat16 is the upper half of a float32.
// Nothing is read or written behind `count`; from and to may not overlap.
#pragma once

#include <stdint.h>

namespace fastconv {

struct HalfKernel {
  void (*widen)(const uint16_t* from, float* to, int64_t count);
  void (*narrow)(const float* from, uint16_t* to, int64_t count);
};

struct HalfKernels {
  HalfKernel float16, bfloat16;
};

extern const HalfKernels half_baseline, half_avx2, half_avx512, half_neon;

}  // namespace fastconv
