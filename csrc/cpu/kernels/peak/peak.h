// The roof beside every measurement: multiply-adds on registers alone.
//
//   a[i] = a[i] * m + b      chains of it, as many as the processor needs to be never waiting for one
//
// `run(n)` does n rounds and returns their sum, which nobody needs; `per_round` says how many multiply-adds a round
// has. Rows and vectors are those of the tallest gemm tile, so that a core's peak is measured with the registers it
// has.
#pragma once

#include <stdint.h>

namespace fastconv {

struct PeakKernel {
  int64_t per_round;
  float (*run)(int64_t rounds);
};

extern const PeakKernel peak_baseline, peak_avx2, peak_avx512, peak_neon;

}  // namespace fastconv
