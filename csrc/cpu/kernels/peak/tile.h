// The chains of peak.h, once for every ISA; an ISA file sets FASTCONV_VECTOR_BYTES and kChains and includes this.
//
//   for round: for i in chains: a[i] = a[i] * m + b
//
// Register budget (chains + m + b): 12 + 2 of 16; 24 + 2 of 32. A multiply-add waits four or five cycles for its
// predecessor and two begin in a cycle: ten chains are enough.
#pragma once

#include "../../simd.h"
#include "peak.h"

namespace {

template <int chains>
float chain_rounds(int64_t rounds) {
  Vector<float> a[chains];
  // The product converges to b / (1 - m) = 1: no overflow, no denormals.
  const Vector<float> m = broadcast(0.5f), b = broadcast(0.5f);
#pragma GCC unroll 32
  for (int i = 0; i < chains; ++i) a[i] = broadcast(static_cast<float>(i));
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 32
    for (int i = 0; i < chains; ++i) {
      a[i] = a[i] * m + b;
      asm volatile("" : "+x"(a[i]));  // keeps the chains apart and the rounds in the loop
    }
  }
  Vector<float> sum = a[0];
#pragma GCC unroll 32
  for (int i = 1; i < chains; ++i) sum += a[i];
  float total = 0;
  for (int j = 0; j < kLanes<float>; ++j) total += sum[j];
  return total;
}

template <int chains>
constexpr fastconv::PeakKernel make_peak() {
  return {chains * kLanes<float>, chain_rounds<chains>};
}

}  // namespace
