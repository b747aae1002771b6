// What the rows' costs are reckoned from: what one multiprocessor does in a cycle, by architecture.
//
// Peak rates over multiprocessors and clock, from NVIDIA's papers on each architecture; the board in brackets stands
// for its architecture number, so that a plan depends on the number and on nothing measured.
//   mma.sync   on 9.0 about 0.62 of the rate of wgmma (Luo et al., arXiv 2501.12084), on 10.0 taken to be the same;
//              with sums in float32 half of the rate with float16 sums on the boards for games
//   cache      bytes of the second-level cache: half of the 64 that a multiprocessor's port takes
// An estimate chooses between loop nests and between their tiles; it does not foretell times.
#pragma once

#include <algorithm>
#include <cstdint>

namespace fastconv::cuda {

struct Rates {
  double fma, double_fma;  // multiply-adds of float32, float64
  double half, tf32;       // multiply-adds of mma.sync, by operand
  double memory, cache;    // bytes of device memory (this multiprocessor's share), of the second-level cache
};

inline Rates rates_of(int arch) {
  if (arch >= 120) return {128, 2, 256, 128, 4.4, 32};    // 12.0 (RTX 5090: 170 at 2.4 GHz, 1.79 TB/s)
  if (arch >= 100) return {128, 64, 1280, 640, 29, 32};   // 10.0 (B200: 148 at 1.85 GHz, 8 TB/s)
  if (arch >= 90) return {128, 64, 1280, 640, 13.9, 32};  // 9.0 (H100: 132 at 1.83 GHz, 3.35 TB/s)
  if (arch >= 89) return {128, 2, 256, 128, 3.1, 32};     // 8.9 (RTX 4090: 128 at 2.5 GHz, 1.0 TB/s)
  if (arch >= 86) return {128, 2, 256, 128, 6.7, 32};     // 8.6 (RTX 3090: 82 at 1.7 GHz, 0.94 TB/s)
  return {64, 32, 1024, 512, 10.2, 32};                   // 8.0 (A100: 108 at 1.41 GHz, 1.56 TB/s)
}

constexpr double kLaunchCycles = 3000;  // from the end of one kernel to the work of the next: about two microseconds
constexpr double kFillCycles = 1500;    // of a block: its first loads and its last stores, which nothing covers
constexpr double kAlone = 1.5;          // a multiprocessor with one block waits at each of its barriers

}  // namespace fastconv::cuda
