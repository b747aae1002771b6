#include <algorithm>

#include "weight_gradient_outer.h"

namespace fastconv {
namespace {

// Items that share out a sum, where threads are to find some to do, whatever their number.
constexpr int64_t kItems = 16, kFewItems = 4;
// Pixels worth a copy of the result, and the most memory that all copies may take.
constexpr int64_t kChunkPixels = 1024, kChunkBytes = int64_t{16} << 20;
// Sums of an item, at most.
constexpr int64_t kSumBytes = int64_t{4} << 20;

bool plain_product(const ConvProblem& p) {
  for (const Axis& a : p.axes)
    if (a.kernel != 1 || a.stride != 1 || a.pad_lo != 0 || a.pad_hi != 0) return false;
  return true;
}

// Cycles to turn an element, per vector of a row that is staged or packed, and per segment of a tile's sum.
constexpr double kTurn = 0.45, kStageVector = 4, kPackVector = 3, kOuterSegment = 6;

// Estimated cycles of all images and groups on one thread.
double outer_cycles(const ConvProblem& p, const Machine& m, const WeightOuterBlocking& b) {
  const int64_t lanes = m.lanes(static_cast<int64_t>(size_of(p.dtype))), max_rows = gemm_rows(m);
  const double taps = static_cast<double>(p.taps()), pixels = static_cast<double>(p.batch * p.out_pixels());
  const int64_t rows = ceil_div(b.row_blocks.count, b.row_blocks.parts) * (b.panels ? p.taps() : 1);
  const int64_t along = b.swapped ? p.in_c_group() : p.out_c_group();
  const double row_blocks = static_cast<double>(b.row_blocks.parts),
               groups = static_cast<double>(b.vector_groups.parts);
  const double products = tile_cycles(rows, max_rows, along, lanes) * row_blocks * (b.panels ? 1 : taps);
  double cycles = products + kTurn * static_cast<double>(along) * row_blocks;
  const double row_vectors = static_cast<double>(b.row_blocks.count) / static_cast<double>(lanes) * groups;
  if (!b.flat && !b.stage.in_place) {
    const double staged = static_cast<double>(b.stage.plane) / static_cast<double>(b.block_rows * b.block_cols);
    cycles += row_vectors * staged * kStageVector;
  }
  if (b.panels) {
    // A run of pixels is moved in whole vectors.
    const double length = static_cast<double>(b.block_cols), whole = static_cast<double>(ceil_div(b.block_cols, lanes));
    cycles += row_vectors * taps * kPackVector * whole * static_cast<double>(lanes) / length;
  } else if (!b.flat) {
    const int64_t calls = ceil_div(rows, max_rows) * ceil_div(along, 2 * lanes);
    cycles +=
        static_cast<double>(calls * p.taps() * b.row_blocks.parts) * kOuterSegment / static_cast<double>(b.block_cols);
  }
  const double copies = static_cast<double>(p.weight_elements() / p.groups * b.chunks.parts);
  return (cycles * pixels + copies * 2) * static_cast<double>(p.groups);
}

WeightOuterBlocking block_outer(const ConvProblem& p, const Gather& g, const Machine& m, bool panels, bool swapped) {
  const int64_t bytes = static_cast<int64_t>(size_of(p.dtype)), width = 2 * m.lanes(bytes), taps = p.taps();
  WeightOuterBlocking b;
  b.flat = plain_product(p);
  b.panels = panels && !b.flat;
  b.swapped = swapped;
  int64_t pieces;
  const int64_t rows = swapped ? p.out_c_group() : p.in_c_group();
  int64_t at_once = rows;
  if (b.flat) {
    // Channels last, the pixels of all images follow each other.
    const bool one = p.layout == Layout::nhwc;
    const int64_t pixels = one ? p.batch * p.out_pixels() : p.out_pixels();
    b.flat_pixels = {pixels, std::max<int64_t>(1, ceil_div(pixels, kWeightPanelPixels))};
    pieces = pixels == 0 ? 0 : (one ? 1 : p.batch) * b.flat_pixels.parts;
    b.pieces_at_once = std::max<int64_t>(1, kWeightPanelPixels / std::max<int64_t>(1, pixels / b.flat_pixels.parts));
  } else {
    b.block_cols = std::min(p.w().out, kWeightPanelPixels);
    b.block_rows = std::clamp<int64_t>(kWeightPanelPixels / b.block_cols, 1, p.h().out);
    b.h_blocks = ceil_div(p.h().out, b.block_rows);
    b.block_rows = ceil_div(p.h().out, b.h_blocks);  // blocks of one height, as far as can be
    b.h_blocks = ceil_div(p.h().out, b.block_rows);
    b.d_blocks = p.d().out;
    b.w_blocks = ceil_div(p.w().out, b.block_cols);
    b.stage = make_stage(g, p.layout, b.block_rows, b.block_cols);
    pieces = p.batch * b.d_blocks * b.h_blocks * b.w_blocks;
    b.pieces_at_once = std::max<int64_t>(1, kWeightPanelPixels / (b.block_rows * b.block_cols));
    const int64_t channel =
        (b.stage.in_place ? 0 : b.pieces_at_once * b.stage.plane) + (b.panels ? taps * kWeightPanelPixels : 0);
    if (channel > 0) at_once = std::clamp<int64_t>(m.l2_bytes / 2 / (channel * bytes), 1, rows);
  }
  b.row_blocks = {rows, ceil_div(rows, at_once)};
  const int64_t vectors = ceil_div(swapped ? p.in_c_group() : p.out_c_group(), width);
  // Tiles enough along the vector that bringing the rows costs little beside their products.
  const int64_t sums = kSumBytes / (width * ceil_div(rows, b.row_blocks.parts) * taps * bytes);
  const int64_t wanted = std::max<int64_t>(b.panels ? 8 : ceil_div(32, taps), 4);
  const int64_t together = std::clamp<int64_t>(std::min(wanted, sums), 1, vectors);
  b.vector_groups = {vectors, ceil_div(vectors, together)};
  const int64_t items = p.groups * b.row_blocks.parts * b.vector_groups.parts;
  const int64_t by_memory = kChunkBytes / std::max<int64_t>(1, p.weight_elements() * bytes);
  const int64_t by_pixels = p.batch * p.out_pixels() / kChunkPixels;
  b.chunks = {pieces, std::clamp<int64_t>(std::min({ceil_div(kItems, items), by_memory, by_pixels}), 1,
                                          std::max<int64_t>(1, pieces))};
  // A plain product reads its rows in place: where nothing else gives threads something to share, the vectors do.
  if (b.flat && items * b.chunks.parts < kFewItems) b.vector_groups.parts = std::min(vectors, kFewItems);
  return b;
}

}  // namespace

WeightOuterBlocking block_weight_outer(const ConvProblem& p, const Gather& g, const Machine& m, bool panels) {
  const WeightOuterBlocking b = block_outer(p, g, m, panels, false);
  if (!b.flat) return b;
  const WeightOuterBlocking other = block_outer(p, g, m, panels, true);
  return outer_cycles(p, m, other) < outer_cycles(p, m, b) ? other : b;
}

double weight_outer_cost(const ConvProblem& p, const Machine& machine, bool panels) {
  return outer_cycles(p, machine, block_weight_outer(p, make_gathers(p)[0], machine, panels));
}

}  // namespace fastconv
