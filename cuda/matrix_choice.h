// Which tile and how many splits the matrix loop nests take: every combination is reckoned, the least wins.
//
//   a block's step    the largest of: products over their rate; fragments out of shared memory (128 bytes a cycle),
//   with
//                     the writes into it; 64 bytes of each row and column out of the second-level cache
//   a multiprocessor  its share of the blocks, step after step; kAlone if that is one block
//   the device        no less than the arrays take to pass through memory
//   splits            one more launch, and the partial sums written and read
// Of a plain matrix (pointwise.cpp) all is whole chunks, and no tile is of fused multiply-adds.
#pragma once

#include <cmath>

#include "plan.h"
#include "rates.h"

namespace fastconv::cuda {

struct MatrixChoice {
  bool simt = false;
  MatrixTile tile = MatrixTile::medium;
  int splits = 1;
  double cycles = 0;
};

struct MatrixShape {
  bool simt;
  MatrixTile tile;
  int m, n;
};

constexpr int kMostSplits = 16, kLeastSteps = 4;  // of a split: the pipeline fills in two

inline double divided(double items, double parts) { return std::ceil(items / parts); }
inline bool is_half(const Target& t) { return size_of(t.element) == 2; }
// Three products for one: float32 operands in two parts.
inline bool is_split(const Target& t) { return t.element == Element::float32 && t.precision == Precision::fp32; }

// Bytes of the three arrays, each once.
inline double array_bytes(const ConvProblem& p, const Target& t) {
  const double in = static_cast<double>(p.batch * p.in_c) * static_cast<double>(p.in_pixels()),
               out = static_cast<double>(p.batch * p.out_c) * static_cast<double>(p.out_pixels());
  return static_cast<double>(size_of(t.element)) * (in + static_cast<double>(p.weight_elements()) +
                                                    (t.pooled         ? 0.25
                                                     : p.has_residual ? 2
                                                                      : 1) *
                                                        out);
}
inline double memory_cycles(double bytes, const Target& t) {
  return bytes / (rates_of(t.device.arch).memory * t.device.multiprocessors);
}

inline int step_channels(const MatrixShape& s, const Target& t) { return !s.simt && is_half(t) ? 32 : 16; }

inline double step_cycles(const MatrixShape& s, const Target& t, bool whole_chunks) {
  const Rates rates = rates_of(t.device.arch);
  const double k = step_channels(s, t), products = double(s.m) * s.n * k, brought = (s.m + s.n) * 64 / rates.cache;
  if (s.simt) return std::max(products / rates.fma, brought);
  const double rate = is_half(t) ? rates.half : is_split(t) ? rates.tf32 / 3 : rates.tf32;
  double shared = 1.5 * (s.m + s.n);
  if (is_split(t)) shared += s.m + s.n;       // taking operands apart
  if (!whole_chunks) shared += s.n * k / 32;  // loads of single elements, a warp's at a time
  return std::max({products / rate, shared, brought});
}

inline double matrix_cycles(const ConvProblem& p, const Gather& g, const Target& t, const MatrixShape& s, int splits,
                            bool plain) {
  const bool whole = plain || (p.layout == Layout::nhwc && g.src_c * int64_t(size_of(t.element)) % 16 == 0);
  const double steps = static_cast<double>(g.taps()) * divided(double(g.src_c), step_channels(s, t)),
               pixels = static_cast<double>(p.batch * g.pixels()),
               blocks = divided(pixels, s.n) * divided(double(g.dst_c), s.m) * double(p.groups) * splits,
               each = divided(blocks, t.device.multiprocessors);
  double cycles = each * divided(steps, splits) * step_cycles(s, t, whole) * (each > 1 ? 1 : kAlone) + kFillCycles;
  cycles = std::max(cycles, memory_cycles(array_bytes(p, t), t)) + kLaunchCycles;
  if (splits > 1) {
    const double moved = 8.0 * splits * pixels * double(g.dst_c * p.groups);
    cycles += kLaunchCycles + moved / (rates_of(t.device.arch).cache * t.device.multiprocessors);
  }
  return cycles;
}

// Splits worth a look: powers of two that leave each enough steps.
inline bool may_split(const ConvProblem& p, const std::vector<Gather>& gathers, const Target& t, const MatrixShape& s,
                      int splits) {
  if (splits == 1) return true;
  const Gather& g = gathers[0];  // the largest phase
  const double steps = static_cast<double>(g.taps()) * divided(double(g.src_c), step_channels(s, t));
  return !s.simt && !t.pooled && steps / splits >= kLeastSteps && p.groups * splits <= kMostBlocksYZ;
}

// With `sums` the order of every sum is that of another choice: a different tile does not change it.
inline MatrixChoice least_cycles(const ConvProblem& p, const std::vector<Gather>& gathers, const Target& t, bool plain,
                                 const MatrixChoice* sums = nullptr) {
  const bool half = is_half(t), simt = !plain && !half && t.precision != Precision::tf32,
             mma = half || t.precision != Precision::fp32_simt;
  const MatrixShape shapes[] = {{false, MatrixTile::large, 128, is_split(t) ? 64 : 128},
                                {false, MatrixTile::medium, 64, 64},
                                {false, MatrixTile::small, 64, 32},
                                {true, MatrixTile::large, 128, 128},
                                {true, MatrixTile::medium, 64, 64}};
  MatrixChoice best;
  best.cycles = -1;
  for (const MatrixShape& s : shapes) {
    if (!(s.simt ? simt : mma) || (sums && sums->simt != s.simt)) continue;
    for (int splits = 1; splits <= kMostSplits; splits *= 2) {
      if (sums ? sums->splits != splits : gathers.empty() || !may_split(p, gathers, t, s, splits)) continue;
      double cycles = 0;
      for (const Gather& g : gathers) cycles += matrix_cycles(p, g, t, s, splits, plain);
      if (best.cycles < 0 || cycles < best.cycles) best = {s.simt, s.tile, splits, cycles};
    }
  }
  if (best.cycles < 0) best = {!mma, MatrixTile::medium, 1, 0};
  return best;
}

inline MatrixChoice choose_matrix(const ConvProblem& p, const std::vector<Gather>& gathers, const Target& t,
                                  bool plain = false) {
  if (!t.exact) return least_cycles(p, gathers, t, plain);
  ConvProblem one = p;
  one.batch = 1;
  const MatrixChoice sums = least_cycles(one, gathers, t, plain);
  return least_cycles(p, gathers, t, plain, &sums);
}

}  // namespace fastconv::cuda
