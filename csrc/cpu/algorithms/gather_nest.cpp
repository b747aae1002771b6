#include "gather_nest.h"

#include <algorithm>
#include <cstring>

#include "../buffer.h"
#include "weight_panels.h"

namespace fastconv {
namespace {

// What one thread works in; the same carving measures and lays out.
template <class T>
struct Scratch {
  T *stage, *panel, *weights;
  int64_t *pixel_offset, *tap_step;
  PixelRun* runs;

  Scratch(Carver& carver, const ConvPlan& plan) {
    int64_t stage_size = 0, panel_size = 0, weight_size = 0, pixels = 0, taps = 0;
    for (size_t i = 0; i < plan.gathers.size(); ++i) {
      const Gather& g = plan.gathers[i];
      const GatherBlocking& b = plan.blocking.gathers[i];
      const int64_t k_channels = ceil_div(b.k_blocks.count, b.k_blocks.parts), depth = k_channels * g.taps();
      const int64_t block = b.block_rows * b.block_cols, width = 2 * plan.machine.lanes(sizeof(T));
      if (!b.stage.in_place) stage_size = std::max(stage_size, b.stage.elements(k_channels));
      // Without panels one tile still needs one, at the end of a source that is read in place.
      panel_size = std::max(panel_size, (b.panels ? block + width : b.stage.in_place ? width : 0) * depth);
      weight_size = std::max(weight_size, depth * std::max<int64_t>(width, kMaxTileRows));
      pixels = std::max(pixels, block);
      taps = std::max(taps, g.taps());
    }
    stage = carver.take<T>(stage_size);
    panel = carver.take<T>(panel_size + kPackSlack);
    weights = carver.take<T>(weight_size + kPackSlack);
    pixel_offset = carver.take<int64_t>(pixels);
    tap_step = carver.take<int64_t>(2 * taps);
    runs = carver.take<PixelRun>(pixels + 1);
  }
};

template <class T>
size_t thread_bytes(const ConvPlan& plan) {
  Carver carver(nullptr);
  const Scratch<T> scratch(carver, plan);
  return carver.used();
}

// A tile of pixels, and the operand the gemm tile reads for it.
struct PixelTile {
  int64_t first, count, width;
};

template <class T>
class GatherRun {
 public:
  GatherRun(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace)
      : plan_(plan),
        problem_(plan.problem),
        kernels_(kernels_for(plan.machine.isa)),
        gemm_(typed<T>(kernels_.gemm)),
        pack_(typed<T>(kernels_.pack)),
        curve_(curve_of<T>(plan)),
        weights_(static_cast<const T*>(operands.w)),
        packed_(static_cast<const T*>(operands.packed)) {
    const bool forward = problem_.direction == Direction::forward;
    src_ = static_cast<const T*>(forward ? operands.x : operands.y);
    src_elements_ =
        problem_.batch * (forward ? problem_.in_c * problem_.in_pixels() : problem_.out_c * problem_.out_pixels());
    dst_ = static_cast<T*>(forward ? operands.y : operands.x);
    residual_ = static_cast<const T*>(operands.residual);
    Carver carver(workspace);
    if (operands.bias) {  // padded, so that a whole vector of it can be loaded
      const int64_t count = problem_.bias_length();
      T* const bias = carver.take<T>(count + 2 * kPackSlack);
      std::memcpy(bias, operands.bias, static_cast<size_t>(count) * sizeof(T));
      std::memset(bias + count, 0, 2 * kPackSlack * sizeof(T));
      bias_ = bias;
    }
    for (int t = 0; t < plan.threads; ++t) {
      std::byte* const base = reinterpret_cast<std::byte*>(carver.take<std::byte>(plan.blocking.thread_bytes));
      Carver thread(base);
      scratch_.emplace_back(thread, plan);
    }
    last_block_.assign(plan.threads, -1);
  }

  void item(int64_t item, int thread, Interrupt& interrupt) {
    size_t index = plan_.gathers.size() - 1;
    while (plan_.blocking.gathers[index].first_item > item) --index;
    const Gather& g = plan_.gathers[index];
    const GatherBlocking& b = plan_.blocking.gathers[index];
    int64_t rest = item - b.first_item;
    const int64_t split = rest % b.c_splits;
    const int64_t block_index = rest /= b.c_splits;
    const PixelBlock block = block_at(g, b, rest % b.blocks());
    rest /= b.blocks();
    const int64_t group = rest % problem_.groups, image = rest / problem_.groups;

    Scratch<T>& s = scratch_[thread];
    place_pixels(g, block, s.pixel_offset);
    const Source<T> source = source_at(g, image, group);
    T* const dst = dst_ + (image * dst_channels(g) * dst_pixels(g)) + group * g.dst_c * (nhwc() ? 1 : dst_pixels(g));
    const int64_t block_id = b.first_item + block_index;
    for (int64_t kb = 0; kb < b.k_blocks.parts; ++kb) {
      // Parts of the channels of one block come one after the other: what was packed for the last is still there.
      const bool again = b.k_blocks.parts == 1 && last_block_[thread] == block_id;
      const Operand operand = read_pixels(g, b, block, source, kb, s, again);
      multiply(index, b, block, operand, kb, group, split, dst, s, [&] { return interrupt.stop_here(thread); });
    }
    last_block_[thread] = block_id;
  }

 private:
  // Where the pixels of a block are read from: tile i, tap t, channel c at base(i) + tap[t] + c * channel.
  struct Operand {
    const T* base;
    const int64_t* tap;
    int64_t taps, channels, channel;
    bool panels;
    PixelBlock block;
    int64_t last_tap;   // in place: the largest of tap[]
    int64_t tail = -1;  // first pixel of the tile that has a panel of its own
  };

  bool nhwc() const { return problem_.layout == Layout::nhwc; }
  int64_t dst_channels(const Gather& g) const { return g.dst_c * problem_.groups; }
  static int64_t dst_pixels(const Gather& g) { return g.d().dst_full * g.h().dst_full * g.w().dst_full; }

  static PixelBlock block_at(const Gather& g, const GatherBlocking& b, int64_t index) {
    PixelBlock block;
    const int64_t w = index % b.w_blocks, h = index / b.w_blocks % b.h_blocks;
    block.d = index / b.w_blocks / b.h_blocks;
    block.h0 = h * b.block_rows;
    block.h1 = std::min(g.h().dst, block.h0 + b.block_rows);
    block.w0 = w * b.block_cols;
    block.w1 = std::min(g.w().dst, block.w0 + b.block_cols);
    return block;
  }

  Source<T> source_at(const Gather& g, int64_t image, int64_t group) const {
    const Walk &d = g.d(), &h = g.h(), &w = g.w();
    const int64_t pixels = d.src * h.src * w.src, channels = g.src_c * problem_.groups;
    const T* const first = src_ + image * channels * pixels + group * g.src_c * (nhwc() ? 1 : pixels);
    if (nhwc()) return {first, 1, h.src * w.src * channels, w.src * channels, channels};
    return {first, pixels, h.src * w.src, w.src, 1};
  }

  // Offsets of the block's results in their image.
  void place_pixels(const Gather& g, const PixelBlock& block, int64_t* offset) const {
    const int64_t unit = nhwc() ? dst_channels(g) : 1;
    const auto place = [](const Walk& walk, int64_t j) { return walk.dst_start + j * walk.dst_step; };
    for (int64_t jh = block.h0; jh < block.h1; ++jh) {
      const int64_t row = (place(g.d(), block.d) * g.h().dst_full + place(g.h(), jh)) * g.w().dst_full;
      for (int64_t jw = block.w0; jw < block.w1; ++jw) *offset++ = (row + place(g.w(), jw)) * unit;
    }
  }

  Operand read_pixels(const Gather& g, const GatherBlocking& b, const PixelBlock& block, Source<T> source, int64_t kb,
                      Scratch<T>& s, bool again) {
    const int64_t c0 = b.k_blocks.begin(kb), channels = b.k_blocks.size(kb), taps = g.taps();
    source.data += c0 * source.channel;
    const T* base = source.data;
    if (!b.stage.in_place) {
      if (!again) fill_stage(b.stage, g, source, block, channels, pack_, s.stage);
      base = s.stage;
    }
    if (!b.panels) {
      const std::vector<int64_t>& tap = b.stage.tap_offset;
      return {base, tap.data(), taps, channels, b.stage.plane, false, block, *std::max_element(tap.begin(), tap.end())};
    }
    if (!again)
      for_tiles(b, block, [&](const PixelTile& tile) {
        pack_tile(g, b, block, tile, base, channels, s, s.panel + tile.first * channels * taps);
      });
    return {s.panel, nullptr, 1, channels * taps, 0, true, block, 0};
  }

  void pack_tile(const Gather& g, const GatherBlocking& b, const PixelBlock& block, const PixelTile& tile,
                 const T* base, int64_t channels, Scratch<T>& s, T* panel) {
    const int64_t runs = find_runs(g, b, block, tile, s.runs);
    pack_.pixels({panel, tile.width, tile.width, base, channels, b.stage.plane, b.stage.tap_offset.data(), g.taps(),
                  s.runs, runs, b.stage.in_place});
  }

  // The tile's pixels as runs of neighbours in the stage.
  static int64_t find_runs(const Gather& g, const GatherBlocking& b, const PixelBlock& block, const PixelTile& tile,
                           PixelRun* runs) {
    const int64_t cols = block.cols();
    int64_t count = 0, lane = 0;
    while (lane < tile.count) {
      const int64_t pixel = tile.first + lane, col = pixel % cols;
      const int64_t length = std::min(cols - col, tile.count - lane);
      const int64_t from = b.stage.row_offset(g, block, block.h0 + pixel / cols) + col;
      if (count && runs[count - 1].from + runs[count - 1].count == from)
        runs[count - 1].count += length;
      else
        runs[count++] = {from, lane, length};
      lane += length;
    }
    return count;
  }

  // Calls f for each tile of the block's pixels: with panels they run over the ends of rows, without they cannot.
  template <class F>
  void for_tiles(const GatherBlocking& b, const PixelBlock& block, const F& f) const {
    const bool merged = b.panels || (b.stage.in_place && b.stage.row * b.stage.row_step == block.cols());
    const int64_t length = merged ? block.pixels() : block.cols();
    for (int64_t start = 0; start < block.pixels(); start += length) {
      if (b.channels_on_vector) {
        const Split tiles{length, ceil_div(length, gemm_.max_rows)};
        for (int64_t i = 0; i < tiles.parts; ++i) f(PixelTile{start + tiles.begin(i), tiles.size(i), tiles.size(i)});
      } else {
        const int64_t width = gemm_.width();
        for (int64_t first = 0; first < length; first += width) {
          const int64_t count = std::min(width, length - first);
          f(PixelTile{start + first, count, count <= gemm_.lanes ? gemm_.lanes : width});
        }
      }
    }
  }

  template <class Stop>
  void multiply(size_t index, const GatherBlocking& b, const PixelBlock& block, Operand pixels, int64_t kb,
                int64_t group, int64_t split, T* dst, Scratch<T>& s, const Stop& stop) {
    const Gather& g = plan_.gathers[index];
    const int64_t depth = b.k_blocks.size(kb) * g.taps();
    const Split parts{b.channel_tiles.parts, b.c_splits};
    for (int64_t i = parts.begin(split); i < parts.begin(split + 1) && !stop(); ++i) {
      const WeightTile tile = weight_tile(plan_, index, group, kb, i);
      const T* panel = s.weights;
      if (packed_)
        panel = packed_ + tile.packed_offset;
      else
        pack_weight_tile(plan_, index, tile, weights_, s.weights);
      GemmTile<T> t{};
      set_epilogue(t, b, kb, group * g.dst_c + tile.first);
      for_tiles(b, block, [&](const PixelTile& px) {
        set_pixels(t, g, b, pixels, px, depth, tile, s, panel);
        set_result(t, g, b, px, tile, dst, s.pixel_offset);
        t.add = kb > 0 ? t.c : residual_ ? residual_ + (t.c - dst_) : nullptr;
        if (b.channels_on_vector)
          gemm_.run(t, static_cast<int>(px.count), static_cast<int>(tile.width / gemm_.lanes));
        else
          gemm_.run(t, static_cast<int>(tile.count), static_cast<int>(px.width / gemm_.lanes));
      });
      if (curve_ && kb + 1 == b.k_blocks.parts) bend(g, block, tile, dst, s.pixel_offset);
    }
  }

  void set_epilogue(GemmTile<T>& t, const GatherBlocking& b, int64_t kb, int64_t channel) const {
    if (bias_ && kb == 0) (b.channels_on_vector ? t.col_bias : t.row_bias) = bias_ + channel;
    set_clamp(t, problem_.activation, kb + 1 == b.k_blocks.parts);
  }

  // The activation's curve over a block of results of one tile of channels.
  void bend(const Gather& g, const PixelBlock& block, const WeightTile& tile, T* dst, const int64_t* offset) const {
    const int64_t channel = nhwc() ? 1 : dst_pixels(g), pixel = g.w().dst_step * (nhwc() ? dst_channels(g) : 1);
    const int64_t pixels = block.pixels();
    const bool merged = offset[pixels - 1] - offset[0] == (pixels - 1) * pixel;
    const int64_t length = merged ? pixels : block.cols();
    for (int64_t i = 0; i < pixels; i += length) {
      T* const first = dst + tile.first * channel + offset[i];
      curve_(nhwc() ? CurveTile<T>{first, pixel, channel, length, tile.count}
                    : CurveTile<T>{first, channel, pixel, tile.count, length});
    }
  }

  // Points the tile's operands at the pixels and at the weight panel.
  void set_pixels(GemmTile<T>& t, const Gather& g, const GatherBlocking& b, Operand& pixels, const PixelTile& px,
                  int64_t depth, const WeightTile& tile, Scratch<T>& s, const T* panel) {
    const T* base;
    const int64_t* tap = nullptr;
    int64_t k_step, taps = 1;
    if (pixels.panels) {
      base = pixels.base + px.first * depth;
      k_step = px.width;
    } else {
      const int64_t cols = pixels.block.cols();
      base = pixels.base + b.stage.row_offset(g, pixels.block, pixels.block.h0 + px.first / cols) + px.first % cols;
      tap = pixels.tap;
      taps = pixels.taps;
      k_step = pixels.channel;
      const int64_t end = base - src_ + pixels.last_tap + (pixels.channels - 1) * pixels.channel + px.width;
      if (b.stage.in_place && !b.channels_on_vector && end > src_elements_) {
        // A whole vector would reach behind the source: this tile gets a panel, read tap by tap as its neighbours are,
        // so that the order of a sum does not depend on where the tiles end. All tiles of weights meet the same panel.
        if (pixels.tail != px.first) pack_tile(g, b, pixels.block, px, pixels.base, pixels.channels, s, s.panel);
        pixels.tail = px.first;
        base = s.panel;
        k_step = px.width * taps;
        int64_t* const panel_tap = s.tap_step + taps;
        for (int64_t i = 0; i < taps; ++i) panel_tap[i] = i * px.width;
        tap = panel_tap;
      }
    }
    // Without panels: a segment per tap, channels along it; the weight panel is read in the same order.
    const int64_t w_step = tile.width * (tap ? taps : 1);
    int64_t* const w_tap = s.tap_step;
    for (int64_t i = 0; tap && i < taps; ++i) w_tap[i] = i * tile.width;
    t.segments = taps;
    t.depth = tap ? pixels.channels : depth;
    t.a_row = 1;
    if (b.channels_on_vector) {
      t.a = base, t.a_k = k_step, t.a_segment = tap;
      t.b = panel, t.b_k = w_step, t.b_segment = tap ? w_tap : nullptr;
    } else {
      t.a = panel, t.a_k = w_step, t.a_segment = tap ? w_tap : nullptr;
      t.b = base, t.b_k = k_step, t.b_segment = tap;
    }
  }

  // Where the tile's results go: strides where its pixels are evenly spaced, else their offsets.
  void set_result(GemmTile<T>& t, const Gather& g, const GatherBlocking& b, const PixelTile& px, const WeightTile& tile,
                  T* dst, const int64_t* pixel_offset) const {
    const int64_t channel_step = nhwc() ? 1 : dst_pixels(g);
    const int64_t pixel_step = g.w().dst_step * (nhwc() ? dst_channels(g) : 1);
    const int64_t* const offset = pixel_offset + px.first;
    const bool even = offset[px.count - 1] - offset[0] == (px.count - 1) * pixel_step;
    t.c = dst + tile.first * channel_step + (even ? offset[0] : 0);
    t.row_offset = t.col_offset = nullptr;
    if (b.channels_on_vector) {
      t.c_row = pixel_step, t.c_col = channel_step;
      if (!even) t.row_offset = offset;
      t.cols = static_cast<int>(tile.count);
    } else {
      t.c_row = channel_step, t.c_col = pixel_step;
      if (!even) t.col_offset = offset;
      t.cols = static_cast<int>(px.count);
    }
  }

  const ConvPlan& plan_;
  const ConvProblem& problem_;
  const Kernels& kernels_;
  const GemmKernel<T>& gemm_;
  const PackKernel<T>& pack_;
  const CurveFunction<T> curve_;
  const T *weights_, *packed_, *src_, *residual_, *bias_ = nullptr;
  int64_t src_elements_;
  T* dst_;
  std::vector<Scratch<T>> scratch_;
  std::vector<int64_t> last_block_;
};

}  // namespace

void prepare_gathers(ConvPlan& plan, bool panels) {
  const ConvProblem& p = plan.problem;
  for (const Gather& g : plan.gathers) {
    GatherBlocking b = block_gather(p, g, plan.machine, plan.threads, panels);
    b.first_item = plan.blocking.items;
    plan.blocking.items += p.batch * p.groups * b.blocks() * b.c_splits;
    plan.blocking.gathers.push_back(std::move(b));
  }
  const size_t element = size_of(p.dtype);
  plan.packed_bytes = static_cast<size_t>(lay_out_weights(plan)) * element;
  plan.blocking.thread_bytes = p.dtype == DType::float32 ? thread_bytes<float>(plan) : thread_bytes<double>(plan);
  plan.workspace_bytes = align_up((static_cast<size_t>(p.bias_length()) + 2 * kPackSlack) * element) +
                         static_cast<size_t>(plan.threads) * plan.blocking.thread_bytes;
}

double gathers_cost(const ConvProblem& p, const Machine& machine, int threads, bool panels) {
  double cycles = 0;
  for (const Gather& g : make_gathers(p))
    cycles += gather_cycles(p, g, block_gather(p, g, machine, threads, panels), machine);
  return cycles * static_cast<double>(p.batch) * static_cast<double>(p.groups) / threads;
}

void run_gathers(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace, Interrupt& interrupt) {
  visit_dtype(plan.problem.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (!covers_result(plan.gathers)) fill_uncovered<T>(plan, operands);
    GatherRun<T> run(plan, operands, workspace);
    parallel_for(plan.blocking.items, plan.threads, interrupt,
                 [&](int64_t item, int thread) { run.item(item, thread, interrupt); });
  });
}

}  // namespace fastconv
