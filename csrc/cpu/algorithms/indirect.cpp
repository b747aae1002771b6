// indirect: pixels are read through a table of offsets, one per term of the sum; nothing is lowered.
//
//   acc[channels][pixels] = bias + sum over k = (in_c, tap) of  w[k] * stage[place(pixel) + offset[k]]
//
//   for item = (image, group, block of pixels, part of the channels):            one thread each
//     the block's rows, padded and divided by their stride, into the stage, unless they can be read where they lie
//     for tile of channels:  one call of kernels/indirect for all pixels of the block
//
// For short sums: stems, first layers, few channels per group, few outputs. There the loop over taps of `direct` is
// entered for a term or three, the panels of `im2col` are read too few times to be worth packing, and tiles of one
// height meet channel counts that do not fill them. A longer sum makes both better.
// Rows that are no multiple of a vector end with one that overlaps its neighbour, which stores the same numbers again;
// not with a residual, which may be the result itself: there the last vector of a row is cut.
// Channels last there is a second form, with the result channels along the vector (indirect_channels.h): taken where it
// is estimated to be cheaper, which is nearly everywhere but for fewer channels than half a vector.
// After: M. Dukhan, The Indirect Convolution Algorithm (2019).
#include <algorithm>

#include "../buffer.h"
#include "gather_nest.h"
#include "indirect_channels.h"
#include "indirect_operands.h"
#include "weight_panels.h"

namespace fastconv {
namespace {

int64_t element_bytes(const ConvProblem& p) { return static_cast<int64_t>(size_of(p.dtype)); }

int max_rows(const ConvProblem& p, const Machine& m) {
  const IndirectKernels& kernels = kernels_for(m.isa).indirect;
  return p.dtype == DType::float32 ? kernels.f32.max_rows : kernels.f64.max_rows;
}

int tile_vectors(const Machine& m, int64_t rows) { return kernels_for(m.isa).indirect.f32.vectors[rows - 1]; }

// The last block along an axis of `count` results in blocks of `block`.
int64_t last_block(int64_t count, int64_t block) { return count - (ceil_div(count, block) - 1) * block; }

// The rows of a block in place follow each other without a gap, in the source and in the result.
bool rows_follow(const Gather& g, const GatherBlocking& b) {
  const Walk &h = g.h(), &w = g.w();
  return b.stage.in_place && b.stage.row * b.stage.row_step == b.block_cols && b.block_cols == w.dst_full &&
         w.dst_step == 1 && h.dst_step == 1;
}

// A width has to save this part of what is read to be taken instead of twice the width.
constexpr double kNarrower = 0.8;

// Results per block: the stage of all channels, read again for every tile of channels, takes half of L2. Rows that
// the window reads above and below a block are read, often from far away, for every block: where whole rows of results
// leave room for a row or two of them, narrower blocks of more rows read less.
void choose_block(GatherBlocking& b, const ConvProblem& p, const Gather& g, const Machine& m, int threads) {
  const int64_t lanes = m.lanes(element_bytes(p)), room = m.l2_bytes / 2 / element_bytes(p);
  const auto staged = [&](int64_t rows, int64_t cols) {
    return g.src_c * make_stage(g, p.layout, rows, cols, false).plane;
  };
  // With a wide dilation a block reads far more than it computes: it is never so small that this is done over and over.
  const auto least = [](const Walk& walk) {
    return ceil_div(walk.most_offset() - walk.least_offset() + 1, 8 * walk.src_step);
  };
  const auto rows_of = [&](int64_t cols) {
    const int64_t one = staged(1, cols), row = std::max<int64_t>(1, staged(2, cols) - one);
    return std::min(g.h().dst, std::max({int64_t{1}, least(g.h()), (room - one) / row + 1}));
  };
  const auto read = [&](int64_t cols) {  // elements for a result
    return static_cast<double>(staged(rows_of(cols), cols)) / static_cast<double>(rows_of(cols) * cols);
  };
  b.block_cols = g.w().dst;
  for (int64_t cols = b.block_cols; cols > std::max(8 * lanes, 2 * least(g.w()));) {
    cols = ceil_div(cols, 2 * lanes) * lanes;
    if (staged(1, b.block_cols) > room || read(cols) < kNarrower * read(b.block_cols)) b.block_cols = cols;
  }
  b.block_rows = rows_of(b.block_cols);
  b.d_blocks = g.d().dst;
  b.w_blocks = ceil_div(g.w().dst, b.block_cols);
  // A few blocks for every thread.
  const int64_t units = std::max<int64_t>(1, p.batch * p.groups * b.d_blocks * b.w_blocks);
  const int64_t wanted = threads > 1 ? ceil_div(4 * threads, units) : 1;
  b.h_blocks = std::min(ceil_div(g.h().dst, std::min(g.h().dst, least(g.h()))),
                        std::max(wanted, ceil_div(g.h().dst, b.block_rows)));
  b.block_rows = ceil_div(g.h().dst, b.h_blocks);
  b.h_blocks = ceil_div(g.h().dst, b.block_rows);
}

GatherBlocking block_indirect(const ConvProblem& p, const Gather& g, const Machine& m, int threads) {
  GatherBlocking b;
  b.panels = false;
  b.k_blocks = {g.src_c, 1};
  b.channel_tiles = {g.dst_c, ceil_div(g.dst_c, max_rows(p, m))};
  choose_block(b, p, g, m, threads);
  b.stage = make_stage(g, p.layout, b.block_rows, b.block_cols);
  // In place every run of pixels is at least a vector, so that its last one overlaps and does not hang over.
  const int64_t run =
      rows_follow(g, b) ? last_block(g.h().dst, b.block_rows) * b.block_cols : last_block(g.w().dst, b.block_cols);
  const int64_t lanes = m.lanes(element_bytes(p));
  const int64_t other = rows_follow(g, b) ? b.block_rows * b.block_cols : b.block_cols;
  const bool cut = p.has_residual && (run % lanes != 0 || other % lanes != 0);
  if (run < lanes || cut) b.stage = make_stage(g, p.layout, b.block_rows, b.block_cols, false);
  const int64_t units = std::max<int64_t>(1, p.batch * p.groups * b.blocks());
  if (threads > 1 && units < 4 * threads) b.c_splits = std::min(b.channel_tiles.parts, ceil_div(4 * threads, units));
  return b;
}

// Cycles of a tile's loads and multiply-adds per term: two of either a cycle, the latter with a latency of four. Every
// third or so vector of pixels lies across two lines and counts twice.
double term_cycles(double rows, double vectors) {
  return std::max({rows * vectors / 2, 4.0, (rows + 1.4 * vectors + 1) / 2});
}

// Estimated cycles of a gather for one image and group, beside the terms: to begin a tile, to store a vector as it is,
// transposed, one by one; to begin a block and a tile of channels in it.
// Bytes of weights a cycle, from L2 and from behind it. Fitted to some forty layers, one thread, Zen 3.
constexpr double kIndirectTile = 12, kStore = 1.5, kStoreTransposed = 6, kStoreScalar = 3;
constexpr double kBlock = 150, kWeightsNear = 32, kWeightsFar = 8;

double indirect_cycles(const ConvProblem& p, const Gather& g, const GatherBlocking& b, const Machine& m) {
  const int64_t lanes = m.lanes(element_bytes(p));
  const double vectors = static_cast<double>(rows_follow(g, b) ? ceil_div(g.pixels(), lanes)
                                                               : g.d().dst * g.h().dst * ceil_div(g.w().dst, lanes));
  const double depth = static_cast<double>(g.depth()), per_lane = static_cast<double>(lanes);
  const bool last = p.layout == Layout::nhwc;
  const double store = last ? kStoreTransposed : g.w().dst_step == 1 ? kStore : kStoreScalar * per_lane;
  const double weights = depth * static_cast<double>(g.dst_c * element_bytes(p));
  const double all_weights = weights * static_cast<double>(p.groups), near = static_cast<double>(m.l2_bytes) / 2;
  const int64_t source = g.src_c * g.h().src * g.w().src * element_bytes(p);
  const double jump = b.stage.in_place && source > m.l1_bytes && b.channel_tiles.parts > 1 ? jump_cycles(p, g, m) : 0;
  double cycles = static_cast<double>(b.blocks() * (1 + b.channel_tiles.parts)) * kBlock +
                  static_cast<double>(b.blocks()) * weights / (all_weights > near ? kWeightsFar : kWeightsNear);
  for (int64_t i = 0; i < b.channel_tiles.parts; ++i) {
    const double rows = static_cast<double>(b.channel_tiles.size(i)), width = tile_vectors(m, b.channel_tiles.size(i));
    cycles += vectors / width * ((term_cycles(rows, width) + jump) * depth + kIndirectTile + rows * width * store);
  }
  return b.stage.in_place ? cycles : cycles + stage_cycles(g, p.layout, lanes);
}

// Vectors that cover the pixels of a block, and where the terms of a pixel lie.
template <class T>
struct Scratch {
  T *stage, *weights;
  int64_t* offset;
  PixelVector* vectors;

  Scratch(Carver& carver, const ConvPlan& plan) {
    const int64_t lanes = plan.machine.lanes(sizeof(T));
    int64_t stage_size = 0, depth = 0, count = 0;
    for (size_t i = 0; i < plan.gathers.size(); ++i) {
      const GatherBlocking& b = plan.blocking.gathers[i];
      if (!b.stage.in_place) stage_size = std::max(stage_size, b.stage.elements(plan.gathers[i].src_c));
      depth = std::max(depth, plan.gathers[i].depth());
      count = std::max(count, b.block_rows * ceil_div(b.block_cols, lanes));
    }
    stage = carver.take<T>(stage_size);
    weights = carver.take<T>(depth * kIndirectRows + kPackSlack);
    offset = carver.take<int64_t>(depth);
    vectors = carver.take<PixelVector>(count);
  }
};

template <class T>
class IndirectRun : IndirectOperands<T, Scratch<T>> {
  using Base = IndirectOperands<T, Scratch<T>>;
  using Base::bias_, Base::curve_, Base::dst_, Base::dst_pixels, Base::kernel_, Base::listed_, Base::p_, Base::packed_;
  using Base::plan_, Base::residual_, Base::scratch_, Base::src_, Base::weights_;

 public:
  IndirectRun(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace)
      : Base(plan, operands, workspace), pack_(typed<T>(kernels_for(plan.machine.isa).pack)) {}

  void item(int64_t item, int thread, Interrupt& interrupt) {
    const auto [index, block, image, group, split, block_id] = work_of(plan_.gathers, plan_.blocking, p_.groups, item);
    const Gather& g = plan_.gathers[index];
    const GatherBlocking& b = plan_.blocking.gathers[index];

    Scratch<T>& s = scratch_[thread];
    list_vectors(index, block, thread);
    IndirectTile<T> t{};
    t.src = read_pixels(g, b, block, source_at(g, image, group), s);
    t.offset = s.offset;
    t.depth = g.depth();
    t.vectors = s.vectors;
    t.count = listed_[thread].count;
    t.channel_step = nhwc() ? 1 : dst_pixels(g);
    t.pixel_step = g.w().dst_step * (nhwc() ? g.dst_c * p_.groups : 1);
    set_clamp(t, p_.activation, true);
    T* const dst = dst_ + image * g.dst_c * p_.groups * dst_pixels(g) + place(g, block.d, block.h0, block.w0);
    const Split parts{b.channel_tiles.parts, b.c_splits};
    for (int64_t i = parts.begin(split); i < parts.begin(split + 1) && !interrupt.stop_here(thread); ++i) {
      const WeightTile tile = weight_tile(plan_, index, group, 0, i);
      const int64_t channel = group * g.dst_c + tile.first;
      if (!packed_) pack_weight_tile(plan_, index, tile, weights_, s.weights);
      t.weights = packed_ ? packed_ + tile.packed_offset : s.weights;
      t.bias = bias_ ? bias_ + channel : nullptr;
      t.dst = dst + channel * t.channel_step;
      t.add = residual_ ? residual_ + (t.dst - dst_) : nullptr;
      kernel_.run[tile.count - 1](t);
      if (curve_) bend(g, block, t, tile.count);
    }
  }

 private:
  bool nhwc() const { return p_.layout == Layout::nhwc; }

  // Offset of a result in its image's channel.
  int64_t place(const Gather& g, int64_t jd, int64_t jh, int64_t jw) const {
    const auto at = [](const Walk& walk, int64_t j) { return walk.dst_start + j * walk.dst_step; };
    const int64_t pixel = (at(g.d(), jd) * g.h().dst_full + at(g.h(), jh)) * g.w().dst_full + at(g.w(), jw);
    return pixel * (nhwc() ? g.dst_c * p_.groups : 1);
  }

  // The activation's curve over the results of a call of the kernel.
  void bend(const Gather& g, const PixelBlock& block, const IndirectTile<T>& t, int64_t channels) const {
    for (int64_t row = 0; row < block.h1 - block.h0; ++row) {
      T* const first = t.dst + place(g, 0, row, 0) - place(g, 0, 0, 0);
      curve_(nhwc() ? CurveTile<T>{first, t.pixel_step, 1, block.cols(), channels}
                    : CurveTile<T>{first, t.channel_step, t.pixel_step, channels, block.cols()});
    }
  }

  Source<T> source_at(const Gather& g, int64_t image, int64_t group) const {
    const int64_t row = g.w().src, slice = g.h().src * row, pixels = g.d().src * slice, channels = g.src_c * p_.groups;
    const T* const first = src_ + image * channels * pixels + group * g.src_c * (nhwc() ? 1 : pixels);
    if (nhwc()) return {first, 1, slice * channels, row * channels, channels};
    return {first, pixels, slice, row, 1};
  }

  const T* read_pixels(const Gather& g, const GatherBlocking& b, const PixelBlock& block, const Source<T>& source,
                       const Scratch<T>& s) const {
    if (b.stage.in_place) return source.data + b.stage.row_offset(g, block, block.h0);
    fill_stage(b.stage, g, source, block, g.src_c, pack_, s.stage);
    return s.stage;
  }

  // Offsets count from the first pixel of the block: blocks of the same extents share them.
  void list_vectors(size_t index, const PixelBlock& block, int thread) {
    const Gather& g = plan_.gathers[index];
    const GatherBlocking& b = plan_.blocking.gathers[index];
    auto& listed = listed_[thread];
    const Scratch<T>& s = scratch_[thread];
    if (listed.gather != static_cast<int64_t>(index)) {
      int64_t* offset = s.offset;
      for (int64_t c = 0; c < g.src_c; ++c)
        for (const int64_t tap : b.stage.tap_offset) *offset++ = c * b.stage.plane + tap;
    }
    const int64_t rows = block.h1 - block.h0, cols = block.cols();
    if (listed.gather == static_cast<int64_t>(index) && listed.rows == rows && listed.cols == cols) return;
    const bool follow = rows_follow(g, b);
    const int64_t length = follow ? rows * cols : cols, lanes = kernel_.lanes;
    // Rows shorter than a vector: what hangs over is written by the row behind it, where that is its neighbour.
    const bool overlap = length >= lanes && !residual_;
    const bool spill = !residual_ && length < lanes && !nhwc() && g.w().dst_step == 1 && g.h().dst_step == 1 &&
                       b.w_blocks == 1 && 2 * cols >= lanes;
    PixelVector* v = s.vectors;
    for (int64_t row = 0; row < (follow ? 1 : rows); ++row) {
      const int64_t src = b.stage.row_offset(g, block, block.h0 + row) - b.stage.row_offset(g, block, block.h0);
      const int64_t dst = place(g, 0, row, 0) - place(g, 0, 0, 0);
      for (int64_t q = 0; q < length; q += lanes) {
        const int64_t first = overlap ? std::min(q, length - lanes) : q;
        const bool whole = first + lanes <= length || (spill && row + 1 < rows);
        *v++ = {src + first, dst + first * g.w().dst_step * (nhwc() ? g.dst_c * p_.groups : 1),
                whole ? lanes : length - first};
      }
    }
    listed = {static_cast<int64_t>(index), rows, cols, v - s.vectors};
  }

  const PackKernel<T>& pack_;
};

double pixels_cost(const ConvProblem& p, const Machine& machine) {
  double cycles = 0;
  for (const Gather& g : make_gathers(p)) cycles += indirect_cycles(p, g, block_indirect(p, g, machine, 1), machine);
  return cycles * static_cast<double>(p.batch * p.groups);
}

bool by_channels(const ConvPlan& plan) {
  return !plan.blocking.gathers.empty() && plan.blocking.gathers[0].channels_on_vector;
}

}  // namespace

Support indirect_supports(const ConvProblem& p, const Machine&) {
  if (p.direction == Direction::weight_gradient) return {"indirect computes no weight gradients"};
  return {};
}

double indirect_cost(const ConvProblem& p, const Machine& machine, int threads) {
  return std::min(pixels_cost(p, machine), indirect_channels_cost(p, machine)) / threads;
}

void indirect_prepare(ConvPlan& plan) {
  const ConvProblem& p = plan.problem;
  if (indirect_channels_cost(p, plan.machine) < pixels_cost(p, plan.machine)) return prepare_indirect_channels(plan);
  for (const Gather& g : plan.gathers) {
    GatherBlocking b = block_indirect(p, g, plan.machine, plan.threads);
    b.first_item = plan.blocking.items;
    plan.blocking.items += p.batch * p.groups * b.blocks() * b.c_splits;
    plan.blocking.gathers.push_back(std::move(b));
  }
  plan.packed_bytes = static_cast<size_t>(lay_out_weights(plan) * element_bytes(p));
  plan.blocking.thread_bytes =
      p.dtype == DType::float32 ? scratch_bytes<Scratch<float>>(plan) : scratch_bytes<Scratch<double>>(plan);
  plan.workspace_bytes = static_cast<size_t>(plan.threads) * plan.blocking.thread_bytes;
}

void indirect_pack(const ConvPlan& plan, const void* w, void* packed, Interrupt& interrupt) {
  if (by_channels(plan)) return pack_indirect_channels(plan, w, packed, interrupt);
  pack_gathers(plan, w, packed, interrupt);
}

void indirect_run(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace, Interrupt& interrupt) {
  if (by_channels(plan)) return run_indirect_channels(plan, operands, workspace, interrupt);
  visit_dtype(plan.problem.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (!covers_result(plan.gathers)) fill_uncovered<T>(plan, operands);
    IndirectRun<T> run(plan, operands, workspace);
    parallel_items(plan, interrupt, [&](int64_t item, int thread) { run.item(item, thread, interrupt); });
  });
}

}  // namespace fastconv
