#include "indirect_channels.h"

#include <algorithm>
#include <cstring>

#include "../buffer.h"
#include "gather_nest.h"
#include "indirect_operands.h"
#include "weight_panels.h"

namespace fastconv {
namespace {

int width_index(int64_t width) { return width == 2 ? 0 : width == 4 ? 1 : 2; }

// What one thread works in; the same carving measures and lays out.
template <class T>
struct Scratch {
  T *stage, *weights;
  int64_t *offset, *summed;  // of the terms of a tile of channels, and of one of sums
  PixelPlace* pixels;

  Scratch(Carver& carver, const ConvPlan& plan) {
    int64_t stage_size = 0, depth = 0, count = 0;
    for (size_t i = 0; i < plan.gathers.size(); ++i) {
      const GatherBlocking& b = plan.blocking.gathers[i];
      const int64_t pitch = pixel_pitch(plan.problem, plan.gathers[i], b);
      if (!b.stage.in_place) stage_size = std::max(stage_size, b.stage.plane * pitch + kPackSlack);
      depth = std::max(depth, plan.gathers[i].depth());
      count = std::max(count, b.block_rows * b.block_cols);
    }
    stage = carver.take<T>(stage_size);
    weights = carver.take<T>(2 * plan.machine.lanes(sizeof(T)) * depth + kPackSlack);
    offset = carver.take<int64_t>(depth);
    summed = carver.take<int64_t>(depth);
    pixels = carver.take<PixelPlace>(count + kIndirectPixels);
  }
};

template <class T>
class ChannelsRun : IndirectOperands<T, Scratch<T>> {
  using Base = IndirectOperands<T, Scratch<T>>;
  using Base::bias_, Base::curve_, Base::dst_, Base::dst_pixels, Base::kernel_, Base::listed_, Base::p_, Base::packed_;
  using Base::plan_, Base::residual_, Base::scratch_, Base::src_, Base::weights_;

 public:
  ChannelsRun(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace)
      : Base(plan, operands, workspace), width_(shared_width(plan.problem, plan.machine)) {}

  void item(int64_t item, int thread, Interrupt& interrupt) {
    const auto [index, block, image, group, split, block_id] = work_of(plan_.gathers, plan_.blocking, 1, item);
    const Gather& g = plan_.gathers[index];
    const GatherBlocking& b = plan_.blocking.gathers[index];
    const Scratch<T>& s = scratch_[thread];
    list_pixels(index, block, thread);
    const T* const src = read_pixels(g, b, block, image, s);
    T* const dst = dst_ + image * dst_pixels(g) * dst_channels(g) + place(g, block.d, block.h0, block.w0);
    ChannelsTile<T> t{};
    const bool triples = takes_triples(p_, plan_.machine, g, b);
    t.pixels = s.pixels;
    t.count = listed_[thread].count;
    t.src_step = pixel_pitch(p_, g, b);
    t.dst_step = g.w().dst_step * dst_channels(g);
    const auto& shared = triples ? kernel_.triples : kernel_.groups;
    set_clamp(t, p_.activation, true);
    const Split parts{channel_tiles(p_, b, plan_.machine), b.c_splits};
    for (int64_t i = parts.begin(split); i < parts.begin(split + 1) && !interrupt.stop_here(thread); ++i) {
      const ChannelTile tile = channel_tile(plan_, index, i);
      if (!packed_) pack_channel_tile(plan_, index, tile, weights_, s.weights);
      t.weights = packed_ ? packed_ + tile.packed_offset : s.weights;
      t.src = src + tile.source;
      t.dst = dst + tile.channel;
      t.bias = bias_ ? bias_ + tile.channel : nullptr;
      t.add = residual_ ? residual_ + (t.dst - dst_) : nullptr;
      t.channels = tile.count;
      if (tile.summed) {
        set_sums(g, s, t);
        kernel_.sums[tile.count - 1](t);
      } else {
        t.offset = s.offset;
        t.depth = width_ ? g.taps() / (triples ? 3 : 1) : g.depth();
        (width_ ? shared[width_index(width_)] : kernel_.channels[tile.vectors - 1])(t);
      }
      if (curve_) bend(g, block, t);
    }
  }

 private:
  int64_t src_channels(const Gather& g) const { return g.src_c * p_.groups; }
  int64_t dst_channels(const Gather& g) const { return g.dst_c * p_.groups; }

  // Offset of a result's channels in its image.
  int64_t place(const Gather& g, int64_t jd, int64_t jh, int64_t jw) const {
    const auto at = [](const Walk& walk, int64_t j) { return walk.dst_start + j * walk.dst_step; };
    return ((at(g.d(), jd) * g.h().dst_full + at(g.h(), jh)) * g.w().dst_full + at(g.w(), jw)) * dst_channels(g);
  }

  // Offsets count from the first pixel of the block: blocks of the same extents share them.
  void list_pixels(size_t index, const PixelBlock& block, int thread) {
    const Gather& g = plan_.gathers[index];
    const GatherBlocking& b = plan_.blocking.gathers[index];
    const Scratch<T>& s = scratch_[thread];
    auto& listed = listed_[thread];
    const int64_t rows = block.h1 - block.h0, cols = block.cols();
    const bool triples = takes_triples(p_, plan_.machine, g, b);
    if (listed.gather != static_cast<int64_t>(index)) {
      list_offsets(g, b, triples, s.offset);
      if (b.summed) list_summed(g, b, s.summed);
    } else if (listed.rows == rows && listed.cols == cols) {
      return;
    }
    const int64_t src_step = g.w().src_step * pixel_pitch(p_, g, b), dst_step = g.w().dst_step * dst_channels(g);
    PixelPlace* px = s.pixels;
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t src = b.stage.row_offset(g, block, block.h0 + row) - b.stage.row_offset(g, block, block.h0);
      const int64_t dst = place(g, 0, row, 0) - place(g, 0, 0, 0);
      for (int64_t q = 0; q < cols; q += triples ? kIndirectPixels : 1) {
        const int64_t col = triples ? std::min(q, cols - kIndirectPixels) : q;  // the last run lies over the one before
        *px++ = {src * pixel_pitch(p_, g, b) + col * src_step, dst + col * dst_step};
      }
    }
    listed = {static_cast<int64_t>(index), rows, cols, px - s.pixels};
    std::fill_n(px, kIndirectPixels, px[-1]);
  }

  void list_offsets(const Gather& g, const GatherBlocking& b, bool triples, int64_t* offset) const {
    const int64_t pitch = pixel_pitch(p_, g, b);
    const std::vector<int64_t>& taps = b.stage.tap_offset;
    if (triples) {
      for (size_t t = 0; t < taps.size(); t += 3) *offset++ = std::min(taps[t], taps[t + 2]) * pitch;
      return;
    }
    for (int64_t c = 0; c < (width_ ? 1 : g.src_c); ++c)
      for (const int64_t tap : taps) *offset++ = tap * pitch + c;
  }

  void list_summed(const Gather& g, const GatherBlocking& b, int64_t* offset) const {
    const int64_t lanes = kernel_.lanes, whole = whole_vectors(g, lanes), pitch = pixel_pitch(p_, g, b);
    for (const int64_t tap : b.stage.tap_offset)
      for (int64_t v = 0; v < whole; ++v) *offset++ = tap * pitch + v * lanes;
    if (whole < all_vectors(g, lanes))
      for (const int64_t tap : b.stage.tap_offset) *offset++ = tap * pitch + whole * lanes;
  }

  static void channels_of(T* to, const T* from, int64_t count) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(T));
  }

  const T* read_pixels(const Gather& g, const GatherBlocking& b, const PixelBlock& block, int64_t image,
                       const Scratch<T>& s) const {
    const int64_t channels = src_channels(g), pitch = pixel_pitch(p_, g, b);
    const T* const source = src_ + image * g.d().src * g.h().src * g.w().src * channels;
    if (b.stage.in_place) return source + b.stage.row_offset(g, block, block.h0) * channels;
    const Walk &d = g.d(), &h = g.h(), &w = g.w();
    const int64_t rows = (block.h1 - block.h0 - 1) * h.src_step + extent(h);
    const int64_t cols = (block.cols() - 1) * w.src_step + extent(w);
    const int64_t first_row = block.h0 * h.src_step + h.least_offset(),
                  first = block.w0 * w.src_step + w.least_offset();
    const int64_t begin = std::clamp<int64_t>(-first, 0, cols), end = std::clamp(w.src - first, begin, cols);
    const auto zero = [pitch](T* from, int64_t pixels) {
      std::memset(from, 0, static_cast<size_t>(pixels * pitch) * sizeof(T));
    };
    const auto copy = [channels, pitch](T* to, const T* from, int64_t pixels) {
      if (pitch == channels)
        channels_of(to, from, pixels * channels);
      else
        for (int64_t i = 0; i < pixels; ++i) channels_of(to + i * pitch, from + i * channels, channels);
    };
    for (int64_t td = 0; td < d.taps; ++td) {
      const int64_t z = d.position(block.d, td);
      for (int64_t r = 0; r < rows; ++r) {
        T* const to = s.stage + (td * b.stage.slice + r * b.stage.row) * pitch;
        const int64_t y = first_row + r;
        if (z < 0 || z >= d.src || y < 0 || y >= h.src) {
          zero(to, cols);
          continue;
        }
        zero(to, begin);
        copy(to + begin * pitch, source + ((z * h.src + y) * w.src + first + begin) * channels, end - begin);
        zero(to + end * pitch, cols - end);
      }
    }
    return s.stage;
  }

  void set_sums(const Gather& g, const Scratch<T>& s, ChannelsTile<T>& t) const {
    const int64_t lanes = kernel_.lanes;
    t.offset = s.summed;
    t.depth = g.taps() * whole_vectors(g, lanes);
    t.cut_depth = g.taps() * all_vectors(g, lanes) - t.depth;
    t.cut_lanes = g.src_c % lanes;
  }

  // The activation's curve over the results of a call of the kernel.
  void bend(const Gather& g, const PixelBlock& block, const ChannelsTile<T>& t) const {
    for (int64_t row = 0; row < block.h1 - block.h0; ++row)
      curve_({t.dst + place(g, 0, row, 0) - place(g, 0, 0, 0), g.w().dst_step * dst_channels(g), 1, block.cols(),
              t.channels});
  }

  const int64_t width_;
};

}  // namespace

void prepare_indirect_channels(ConvPlan& plan) {
  const ConvProblem& p = plan.problem;
  for (const Gather& g : plan.gathers) {
    GatherBlocking b = block_channels(p, g, plan.machine, plan.threads);
    b.first_item = plan.blocking.items;
    plan.blocking.items += p.batch * b.blocks() * b.c_splits;
    plan.blocking.gathers.push_back(std::move(b));
  }
  plan.packed_bytes = static_cast<size_t>(lay_out_channels(plan) * static_cast<int64_t>(size_of(p.dtype)));
  plan.blocking.thread_bytes =
      p.dtype == DType::float32 ? scratch_bytes<Scratch<float>>(plan) : scratch_bytes<Scratch<double>>(plan);
  plan.workspace_bytes = static_cast<size_t>(plan.threads) * plan.blocking.thread_bytes;
}

void run_indirect_channels(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace,
                           Interrupt& interrupt) {
  visit_dtype(plan.problem.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (!covers_result(plan.gathers)) fill_uncovered<T>(plan, operands);
    ChannelsRun<T> run(plan, operands, workspace);
    parallel_items(plan, interrupt, [&](int64_t item, int thread) { run.item(item, thread, interrupt); });
  });
}

}  // namespace fastconv
