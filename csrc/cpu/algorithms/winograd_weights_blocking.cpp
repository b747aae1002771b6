// How the weight gradient by Winograd's algorithm is divided, and what it costs; its loop nest is winograd_weights.cpp.
#include <algorithm>

#include "winograd.h"

namespace fastconv {
namespace {

// Bytes of transformed numbers that a chunk keeps at most: two fifths of L3, which others use too.
int64_t most_chunk_bytes(const Machine& m) { return std::clamp<int64_t>(m.l3_bytes * 2 / 5, 4 << 20, 24 << 20); }

// Each chunk passes over the sums once, so that it is worth four times their size. Not more than that, but for two L2s
// in which tiles are transformed in rows long enough: what is written and read back soon is still close by, even where
// the rest of a network has been through the caches in between.
int64_t chunk_bytes(const Machine& m, int64_t sums) {
  return std::min(std::max(4 * sums, 2 * m.l2_bytes), most_chunk_bytes(m));
}

// Sections: halves of halves, so that two and four threads have equal shares; sums of one in L2, taken so many times.
constexpr int64_t kMostSections = 4, kSectionSums = 2;

WinogradWeightBlocking block_weights(const ConvProblem& p, const Machine& m, int form_h, int form_w) {
  const WinogradForm &h = kWinogradForms[form_h], &w = kWinogradForms[form_w];
  const int64_t lanes = m.lanes(sizeof(float)), element = static_cast<int64_t>(sizeof(float));
  WinogradWeightBlocking b;
  b.form_h = form_h, b.form_w = form_w;
  b.positions = h.alpha * w.alpha;
  b.tiles_h = ceil_div(p.h().out, h.results);
  b.tiles_w = ceil_div(p.w().out, w.results);
  const int64_t in = ceil_div(p.in_c_group(), lanes), out = ceil_div(p.out_c_group(), lanes);
  // A block of sums in half of L2, four vectors wide.
  const int64_t wide = std::min<int64_t>(in, 4);
  const int64_t high = std::max<int64_t>(1, m.l2_bytes / 2 / (b.positions * wide * lanes * element) / lanes);
  b.in_blocks = {in, ceil_div(in, wide)};
  b.out_blocks = {out, ceil_div(out, std::min(high, ceil_div(64, lanes)))};
  b.in_width = ceil_div(in, b.in_blocks.parts) * lanes;
  b.out_width = ceil_div(out, b.out_blocks.parts) * lanes;
  const int64_t rows = p.batch * p.d().out * b.tiles_h;
  const int64_t sums = b.positions * in * out * lanes * lanes * element;
  const int64_t row_bytes = b.tiles_w * b.positions * (in + out) * lanes * element;
  b.rows = {rows, std::max<int64_t>(1, ceil_div(rows, std::max<int64_t>(1, chunk_bytes(m, sums) / row_bytes)))};
  int64_t sections = 1;
  if (sums <= kSectionSums * m.l2_bytes)
    while (sections < kMostSections && 2 * sections <= b.rows.parts) sections *= 2;
  b.rows.parts = std::clamp<int64_t>(ceil_div(b.rows.parts, sections) * sections, 1, std::max<int64_t>(rows, 1));
  b.sections = {b.rows.parts, sections};
  // Positions an odd number of cache lines apart: a power of two would put all of a tile into the same sets.
  const int64_t line = static_cast<int64_t>(kAlignment / sizeof(float));
  const auto spread = [line](int64_t elements) { return (ceil_div(elements, line) | 1) * line; };
  const int64_t tiles = ceil_div(rows, b.rows.parts) * b.tiles_w;
  b.in_position = spread(tiles * b.in_width);
  b.out_position = spread(tiles * b.out_width);
  b.sum_position = spread(b.out_width * b.in_width);
  return b;
}

// As in winograd.cpp: operations of the transforms of a line, and by how much they are slower than that; cycles to
// bring the sums of one weight to the result; cycles per byte of sums kept between chunks, in L3 and in memory.
constexpr double kTransform = 1.3, kStagePixel = 3, kFinish = 12, kFromL3 = 0.12, kFromMemory = 0.4;

double weights_cycles(const ConvProblem& p, const Machine& m, const WinogradWeightBlocking& b) {
  const int64_t lanes = m.lanes(sizeof(float)), in = p.in_c_group(), out = p.out_c_group();
  const WinogradForm &h = kWinogradForms[b.form_h], &w = kWinogradForms[b.form_w];
  const double tiles = static_cast<double>(b.rows.count * b.tiles_w), positions = static_cast<double>(b.positions);
  const double in_vectors = tiles * static_cast<double>(b.in_blocks.count);
  const double out_vectors = tiles * static_cast<double>(b.out_blocks.count);
  const double lines = (w.alpha * winograd_line_in(h.alpha) + h.alpha * winograd_line_in(w.alpha)) / 2;
  const double pixels = kStagePixel * h.results * w.results;
  const double transforms = (in_vectors + out_vectors) * (lines + 2 * positions + pixels) * kTransform;
  const double products = positions * tiles * 1.1 * tile_cycles(out, gemm_rows(m), in, lanes);
  const double weights = static_cast<double>(in * out), sums = weights * positions * sizeof(float);
  const double passes = 2.0 * static_cast<double>(b.rows.parts - 1) * sums;
  const bool far = sums + static_cast<double>(most_chunk_bytes(m)) > 0.7 * static_cast<double>(m.l3_bytes);
  return (transforms + products + weights * kFinish + passes * (far ? kFromMemory : kFromL3)) *
         static_cast<double>(p.groups);
}

}  // namespace

WinogradWeightBlocking choose_winograd_weights(const ConvProblem& p, const Gather& g, const Machine& m) {
  WinogradWeightBlocking best;
  double least = 0;
  for (const int alpha : {4, 6, 8}) {
    const int h = winograd_form(g.h().taps, alpha), w = winograd_form(g.w().taps, alpha);
    if (h < 0 || w < 0) continue;
    const WinogradWeightBlocking b = block_weights(p, m, h, w);
    const double cycles = weights_cycles(p, m, b);
    if (best.positions == 0 || cycles < least * (alpha == 8 ? kWinogradLongFormGain : 1)) least = cycles, best = b;
  }
  return best;
}

double winograd_weights_cost(const ConvProblem& p, const Machine& m) {
  return weights_cycles(p, m, choose_winograd_weights(p, make_gathers(p)[0], m));
}

}  // namespace fastconv
