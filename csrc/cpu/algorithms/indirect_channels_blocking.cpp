// How indirect_channels.h divides a problem, and what that costs.
#include <algorithm>
#include <cstdlib>
#include <limits>

#include "indirect_channels.h"

namespace fastconv {
namespace {

int64_t element_bytes(const ConvProblem& p) { return static_cast<int64_t>(size_of(p.dtype)); }

const auto& channel_pixels(const ConvProblem& p, const Machine& m) {
  const IndirectKernels& kernels = kernels_for(m.isa).indirect;
  return p.dtype == DType::float32 ? kernels.f32.pixels : kernels.f64.pixels;
}

const auto& sum_pixels(const ConvProblem& p, const Machine& m) {
  const IndirectKernels& kernels = kernels_for(m.isa).indirect;
  return p.dtype == DType::float32 ? kernels.f32.sum_pixels : kernels.f64.sum_pixels;
}

}  // namespace

int64_t shared_width(const ConvProblem& p, const Machine& m) {
  const int64_t width = p.in_c_group();
  if (width != p.out_c_group() || p.groups == 1 || width >= m.lanes(element_bytes(p))) return 0;
  return width == 2 || width == 4 || width == 8 ? width : 0;
}

bool takes_triples(const ConvProblem& p, const Machine& m, const Gather& g, const GatherBlocking& b) {
  const Walk& w = g.w();
  const int64_t last = w.dst - (b.w_blocks - 1) * b.block_cols;
  return shared_width(p, m) && !p.has_residual && w.taps == 3 && w.src_step == 1 && std::abs(w.offset_step) == 1 &&
         std::min(b.block_cols, last) >= kIndirectPixels;
}

// A power of two would bring the pixels of a tile to the same few sets of L1, which has a set for each line of 4 KB.
int64_t pixel_pitch(const ConvProblem& p, const Gather& g, const GatherBlocking& b) {
  const int64_t channels = g.src_c * p.groups, bytes = element_bytes(p);
  return b.stage.in_place || channels * bytes % 256 != 0 ? channels : channels + 64 / bytes;
}

namespace {

bool inside(const Walk& walk) {
  return walk.least_offset() >= 0 && (walk.dst - 1) * walk.src_step + walk.most_offset() < walk.src;
}

Stage stage_of_pixels(const Gather& g, int64_t block_rows, int64_t block_cols, bool in_place) {
  const Walk &d = g.d(), &h = g.h(), &w = g.w();
  Stage s;
  s.in_place = in_place;
  s.row = in_place ? w.src : (block_cols - 1) * w.src_step + extent(w);
  s.rows = in_place ? h.src : (block_rows - 1) * h.src_step + extent(h);
  s.row_step = h.src_step;
  s.slice = s.rows * s.row;
  s.plane = s.slice * (in_place ? d.src : d.taps);
  for (int64_t td = 0; td < d.taps; ++td)
    for (int64_t th = 0; th < h.taps; ++th)
      for (int64_t tw = 0; tw < w.taps; ++tw) {
        const int64_t row = h.offset + th * h.offset_step, col = w.offset + tw * w.offset_step;
        s.tap_offset.push_back(in_place ? (d.offset + td * d.offset_step) * s.slice + row * s.row + col
                                        : td * s.slice + (row - h.least_offset()) * s.row + col - w.least_offset());
      }
  return s;
}

// Pixels of a block, so that their list stays in L1, and what they read and write in half of L2.
constexpr int64_t kBlockPixels = 1024;

// Estimated cycles beside the multiply-adds: to begin and end a tile, to store a vector whole or in part; to begin a
// block and a tile of channels in it; bytes a cycle into the stage, and cycles to begin one of its rows. From a dozen
// layers, one thread, Zen 3.
constexpr double kPixelTile = 14, kStore = 1.2, kStoreSome = 4;
constexpr double kShuffled = 0.8, kTriple = 0.6;
// To add up the lanes of a sum, and to store those of a pixel.
constexpr double kSum = 1.8, kSumStore = 2;
constexpr double kBlock = 100, kCall = 30, kStageBytes = 16, kStageRow = 20;

// Cycles of a term and of the rest of a tile of `vectors` of result channels, for one pixel, the last of `some` lanes.
double pixel_cycles(const ConvProblem& p, const Machine& m, int vectors, bool some, double depth, double shared) {
  const double rows = channel_pixels(p, m)[vectors - 1], v = vectors;
  const double term = shared > 0 ? rows * shared : std::max({rows * v / 2, 4.0, (rows + v + 1) / 2});
  return (term * depth + kPixelTile) / rows + kStore * (v - (some ? 1 : 0)) + (some ? kStoreSome : 0);
}

// The same with source channels along the vector.
double sums_cycles(const ConvProblem& p, const Gather& g, const Machine& m, int64_t channels) {
  const double rows = static_cast<double>(channels), pixels = sum_pixels(p, m)[channels - 1];
  const double terms = static_cast<double>(g.taps() * all_vectors(g, m.lanes(element_bytes(p))));
  const double term = std::max({rows * pixels / 2, 4.0, (rows + pixels + 1) / 2});
  return (term * terms + kPixelTile) / pixels + kSum * rows + kSumStore;
}

// Channels of the last tile that are cheaper with source channels along the vector. Their panel takes the room of the
// other one.
int64_t summed_channels(const ConvProblem& p, const Gather& g, const Machine& m) {
  const int64_t lanes = m.lanes(element_bytes(p)), rest = g.dst_c % (2 * lanes);
  if (shared_width(p, m) || rest == 0 || rest > std::min<int64_t>(kSumRows, lanes - 1)) return 0;
  if (rest * all_vectors(g, lanes) > g.src_c) return 0;
  return sums_cycles(p, g, m, rest) < pixel_cycles(p, m, 1, true, static_cast<double>(g.depth()), 0) ? rest : 0;
}

}  // namespace

GatherBlocking block_channels(const ConvProblem& p, const Gather& g, const Machine& m, int threads) {
  const int64_t bytes = element_bytes(p), lanes = m.lanes(bytes), width = shared_width(p, m);
  GatherBlocking b;
  b.channels_on_vector = true;
  b.panels = false;
  b.k_blocks = {g.src_c, 1};
  b.channel_tiles = width ? Split{g.dst_c * p.groups, ceil_div(g.dst_c * p.groups, lanes)}
                          : Split{g.dst_c, ceil_div(g.dst_c, 2 * lanes)};
  b.summed = summed_channels(p, g, m);
  // Whole vectors are read where groups share them: behind the last pixel of a source there may be nothing.
  const bool in_place = inside(g.d()) && inside(g.h()) && inside(g.w()) && (!width || g.src_c * p.groups % lanes == 0);
  // With a wide dilation a block reads far more than it computes: it is never so small that this is done over and over.
  const auto least = [&](const Walk& walk) { return in_place ? 1 : ceil_div(extent(walk), 8 * walk.src_step); };
  const int64_t read = g.src_c * g.h().src_step * g.w().src_step;
  const int64_t most = std::clamp<int64_t>(m.l2_bytes / 2 / bytes / ((read + g.dst_c) * p.groups), 32, kBlockPixels);
  const auto even = [](int64_t count, int64_t block) { return ceil_div(count, ceil_div(count, block)); };
  b.block_cols = even(g.w().dst, std::min(g.w().dst, std::max(most, least(g.w()))));
  b.d_blocks = g.d().dst;
  b.w_blocks = ceil_div(g.w().dst, b.block_cols);
  // A few blocks for every thread.
  const int64_t units = std::max<int64_t>(1, p.batch * b.d_blocks * b.w_blocks);
  const int64_t for_threads = threads > 1 ? ceil_div(g.h().dst, ceil_div(4 * threads, units)) : g.h().dst;
  b.block_rows = std::max(least(g.h()), std::min(for_threads, std::max<int64_t>(1, most / b.block_cols)));
  b.block_rows = even(g.h().dst, std::min(g.h().dst, b.block_rows));
  b.h_blocks = ceil_div(g.h().dst, b.block_rows);
  b.stage = stage_of_pixels(g, b.block_rows, b.block_cols, in_place);
  const int64_t tiles = channel_tiles(p, b, m), blocks = std::max<int64_t>(1, p.batch * b.blocks());
  if (threads > 1 && blocks < 4 * threads) b.c_splits = std::min(tiles, ceil_div(4 * threads, blocks));
  return b;
}

namespace {

double channels_cycles(const ConvProblem& p, const Gather& g, const GatherBlocking& b, const Machine& m) {
  const int64_t lanes = m.lanes(element_bytes(p)), width = shared_width(p, m);
  const double blocks = static_cast<double>(b.blocks()), depth = static_cast<double>(g.depth());
  const double pixels = static_cast<double>(g.pixels());
  // The list of a block ends with the last pixel again.
  const auto listed = [&](double rows, double cycles) {
    return blocks * kCall + std::max(blocks * rows, pixels + blocks * rows / 2) * cycles;
  };
  const double shared = width ? takes_triples(p, m, g, b) ? kTriple : kShuffled : 0;
  const auto tiles = [&](int vectors, bool some) {
    return listed(channel_pixels(p, m)[vectors - 1], pixel_cycles(p, m, vectors, some, depth, shared));
  };
  double cycles = blocks * kBlock;
  if (width) {
    const bool some = b.channel_tiles.count % lanes != 0;
    cycles += static_cast<double>(b.channel_tiles.parts - some) * tiles(1, false) + (some ? tiles(1, true) : 0);
  } else {
    const int64_t pairs = g.dst_c / (2 * lanes), rest = g.dst_c % (2 * lanes);
    const double last = rest == 0  ? 0
                        : b.summed ? listed(sum_pixels(p, m)[rest - 1], sums_cycles(p, g, m, rest))
                                   : tiles(rest > lanes ? 2 : 1, rest % lanes != 0);
    const double group = static_cast<double>(pairs) * tiles(2, false) + last;
    cycles += static_cast<double>(p.groups) * group;
  }
  if (b.stage.in_place) return cycles;
  const double rows = blocks * static_cast<double>(g.d().taps * b.stage.rows);
  const double bytes = static_cast<double>(b.stage.row * pixel_pitch(p, g, b) * element_bytes(p));
  return cycles + rows * (kStageRow + bytes / kStageBytes);
}

}  // namespace

double indirect_channels_cost(const ConvProblem& p, const Machine& machine) {
  if (p.layout != Layout::nhwc) return std::numeric_limits<double>::infinity();
  double cycles = 0;
  for (const Gather& g : make_gathers(p)) cycles += channels_cycles(p, g, block_channels(p, g, machine, 1), machine);
  return cycles * static_cast<double>(p.batch);
}

}  // namespace fastconv
