#include "gather_nest.h"

#include <algorithm>
#include <cstring>

#include "ahead.h"
#include "gather_scratch.h"
#include "weight_panels.h"

namespace fastconv {
namespace {

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
    const Work work = work_at(item);
    const Gather& g = plan_.gathers[work.gather];
    const GatherBlocking& b = plan_.blocking.gathers[work.gather];
    GatherScratch<T>& s = scratch_[thread];
    place_pixels(g, work.block, s.pixel_offset);
    const Source<T> source = source_at(g, work.image, work.group);
    T* const dst =
        dst_ + (work.image * dst_channels(g) * dst_pixels(g)) + work.group * g.dst_c * (nhwc() ? 1 : dst_pixels(g));
    const int64_t tiles = Split{b.channel_tiles.parts, b.c_splits}.size(work.split);
    for (int64_t kb = 0; kb < b.k_blocks.parts; ++kb) {
      // Parts of the channels of one block come one after the other: what was packed for the last is still there.
      const bool again = (b.k_blocks.parts == 1 || b.keeps_passes) && last_block_[thread] == work.block_id;
      const Operand operand = read_pixels(g, b, work.block, source, kb, s, again);
      Ahead ahead = what_follows(item, work, kb, operand.count * tiles);
      multiply(work, operand, kb, dst, s, ahead, [&] { return interrupt.stop_here(thread); });
    }
    last_block_[thread] = work.block_id;
  }

 private:
  Work work_at(int64_t item) const { return work_of(plan_.gathers, plan_.blocking, problem_.groups, item); }

  // What the thread reads after the kb-th channels of an item, to be asked for in so many parts.
  Ahead what_follows(int64_t item, const Work& work, int64_t kb, int64_t calls) const {
    const bool same = kb + 1 < plan_.blocking.gathers[work.gather].k_blocks.parts;
    if (nhwc() || (!same && item + 1 >= plan_.blocking.items)) return {};
    const Work next = same ? work : work_at(item + 1);
    if (!same && next.block_id == work.block_id) return {};
    const Gather& g = plan_.gathers[next.gather];
    const Split& channels = plan_.blocking.gathers[next.gather].k_blocks;
    Source<T> source = source_at(g, next.image, next.group);
    source.data += channels.begin(same ? kb + 1 : 0) * source.channel;
    return ahead_of_block(g, next.block, source, channels.size(same ? kb + 1 : 0), calls);
  }

  // How the pixels of a block are read: those of tile i, of tap t and channel c at
  // tiles[i].base + tap[t] + c * channel, or in panels.
  struct Operand {
    const T* base;
    const int64_t* tap;
    int64_t taps, channels, channel;
    bool panels;
    PixelBlock block;
    const PixelTile<T>* tiles;
    int64_t count;
    int64_t tail = -1;  // first pixel of the tile whose panel was packed last
  };

  bool nhwc() const { return problem_.layout == Layout::nhwc; }
  int64_t dst_channels(const Gather& g) const { return g.dst_c * problem_.groups; }
  static int64_t dst_pixels(const Gather& g) { return g.d().dst_full * g.h().dst_full * g.w().dst_full; }

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
                      GatherScratch<T>& s, bool again) {
    const int64_t c0 = b.k_blocks.begin(kb), channels = b.k_blocks.size(kb), taps = g.taps();
    source.data += c0 * source.channel;
    const T* base = source.data;
    if (!b.stage.in_place && !b.spread) {
      if (!again) fill_stage(b.stage, g, source, block, channels, pack_, s.stage);
      base = s.stage;
    }
    T* const panels = s.panel + (b.keeps_passes ? (b.block_rows * b.block_cols + gemm_.width()) * c0 * taps : 0);
    if (b.panels && !again)
      for_tiles(b, block, [&](int64_t first, int64_t count, int64_t width) {
        const PixelTile<T> tile{first, count, width, nullptr, 0, true, false};
        T* const panel = panels + first * channels * taps;
        b.spread ? spread_tile(g, block, tile, source, channels, s, panel)
                 : pack_tile(g, b, block, tile, base, channels, s, panel);
      });
    Operand operand{base, b.stage.tap_offset.data(), taps, channels, b.stage.plane, b.panels, block, s.tiles, 0};
    if (b.panels) operand = {panels, nullptr, 1, channels * taps, 0, true, block, s.tiles, 0};
    operand.count = place_tiles(g, b, operand, s);
    return operand;
  }

  // The block's tiles with their addresses: found once, and not for every tile of weights.
  int64_t place_tiles(const Gather& g, const GatherBlocking& b, const Operand& pixels, GatherScratch<T>& s) const {
    const int64_t cols = pixels.block.cols(), pixel_step = pixel_step_of(g);
    const int64_t last = pixels.panels ? 0
                                       : *std::max_element(pixels.tap, pixels.tap + pixels.taps) +
                                             (pixels.channels - 1) * pixels.channel;
    const bool may_end = !b.panels && b.stage.in_place && !b.channels_on_vector;
    int64_t tiles = 0;
    for_tiles(b, pixels.block, [&](int64_t first, int64_t count, int64_t width) {
      const T* const base =
          pixels.base + (b.panels ? first * pixels.channels
                                  : b.stage.row_offset(g, pixels.block, pixels.block.h0 + first / cols) +
                                        first % cols * b.stage.pixel_step);
      const int64_t* const offset = s.pixel_offset + first;
      const bool even = offset[count - 1] - offset[0] == (count - 1) * pixel_step;
      const bool tail = may_end && base - src_ + last + width > src_elements_;
      s.tiles[tiles++] = {first, count, width, base, even ? offset[0] : 0, even, tail};
    });
    return tiles;
  }

  void pack_tile(const Gather& g, const GatherBlocking& b, const PixelBlock& block, const PixelTile<T>& tile,
                 const T* base, int64_t channels, GatherScratch<T>& s, T* panel) {
    const int64_t runs = find_runs(g, b, block, tile, s.runs);
    pack_.pixels({panel, tile.width, tile.width, base, channels, b.stage.plane, b.stage.tap_offset.data(), g.taps(),
                  s.runs, runs, b.stage.in_place});
  }

  // Straight from the source, of which whole vectors may be read up to its ends.
  void spread_tile(const Gather& g, const PixelBlock& block, const PixelTile<T>& tile, const Source<T>& source,
                   int64_t channels, GatherScratch<T>& s, T* panel) {
    const int64_t low = src_ - source.data, high = low + src_elements_ - (channels - 1) * source.channel;
    const int64_t moves = list_moves(g, block, {tile.first, tile.count, tile.width}, gemm_.lanes, low, high, s.moves);
    pack_.spread({panel, tile.width * g.taps(), source.data, source.channel, g.w().src_step, channels, s.moves, moves});
  }

  // The tile's pixels as runs of neighbours in the stage.
  static int64_t find_runs(const Gather& g, const GatherBlocking& b, const PixelBlock& block, const PixelTile<T>& tile,
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

  // Calls f(first, count, width) for each tile of the block's pixels: with panels they run over the ends of rows,
  // without they cannot.
  template <class F>
  void for_tiles(const GatherBlocking& b, const PixelBlock& block, const F& f) const {
    const bool merged = b.panels || (b.stage.in_place && b.stage.row * b.stage.row_step == block.cols());
    const int64_t length = merged ? block.pixels() : block.cols();
    for (int64_t start = 0; start < block.pixels(); start += length) {
      if (b.channels_on_vector) {
        const Split tiles{length, ceil_div(length, gemm_.max_rows)};
        for (int64_t i = 0; i < tiles.parts; ++i) f(start + tiles.begin(i), tiles.size(i), tiles.size(i));
      } else {
        const int64_t width = gemm_.width();
        for (int64_t first = 0; first < length; first += width) {
          const int64_t count = std::min(width, length - first);
          f(start + first, count, count <= gemm_.lanes ? gemm_.lanes : width);
        }
      }
    }
  }

  template <class Stop>
  void multiply(const Work& work, Operand pixels, int64_t kb, T* dst, GatherScratch<T>& s, Ahead& ahead,
                const Stop& stop) {
    const Gather& g = plan_.gathers[work.gather];
    const GatherBlocking& b = plan_.blocking.gathers[work.gather];
    const int64_t depth = b.k_blocks.size(kb) * g.taps();
    const Split parts{b.channel_tiles.parts, b.c_splits};
    const int64_t last = parts.begin(work.split + 1) - 1;
    for (int64_t i = parts.begin(work.split); i <= last && !stop(); ++i) {
      const WeightTile tile = weight_tile(plan_, work.gather, work.group, kb, i);
      const T *panel = s.weights, *next = nullptr;
      if (packed_) {
        panel = packed_ + tile.packed_offset;
        if (i < last) next = packed_ + weight_tile(plan_, work.gather, work.group, kb, i + 1).packed_offset;
      } else {
        pack_weight_tile(plan_, work.gather, tile, weights_, s.weights);
      }
      GemmTile<T> t{};
      set_epilogue(t, b, kb, work.group * g.dst_c + tile.first);
      set_operands(t, b, pixels, depth, tile, s, panel);
      set_result(t, g, b, tile);
      T* const c = dst + tile.first * channel_step_of(g);
      const T* const add = kb > 0 ? c : residual_ ? residual_ + (c - dst_) : nullptr;
      if (b.channels_on_vector)
        run_tiles<true>(t, g, b, pixels, tile, next, c, add, s, ahead);
      else
        run_tiles<false>(t, g, b, pixels, tile, next, c, add, s, ahead);
      if (curve_ && kb + 1 == b.k_blocks.parts) bend(g, work.block, tile, dst, s.pixel_offset);
    }
  }

  // One tile of weights with all tiles of pixels, among which the lines of the next one are divided: they arrive
  // meanwhile, and the first tile of pixels does not wait for all of them.
  template <bool channels_on_vector>
  void run_tiles(GemmTile<T>& t, const Gather& g, const GatherBlocking& b, Operand& pixels, const WeightTile& tile,
                 const T* next, T* c, const T* add, GatherScratch<T>& s, Ahead& ahead) {
    const int64_t terms = t.segments * t.depth;
    const T* const asked = next ? next + terms * tile.width : nullptr;
    t.ask_step = ceil_div(tile.width, pixels.count);
    const int lanes = gemm_.lanes;
    const GemmFunction<T>* const by_rows = gemm_.tile[channels_on_vector ? tile.width / lanes - 1 : 0];
    const int rows = static_cast<int>(std::min<int64_t>(gemm_.max_rows, tile.count));
    const GemmFunction<T> narrow = gemm_.tile[0][rows - 1], wide = gemm_.tile[1][rows - 1];
    for (const PixelTile<T>* px = pixels.tiles; px < pixels.tiles + pixels.count; ++px) {
      ahead.some();
      t.ask = next < asked ? next : nullptr;
      if (next) next += terms * t.ask_step;
      t.c = c + px->offset;
      t.add = add ? add + px->offset : nullptr;
      const int64_t* const offset = px->even ? nullptr : s.pixel_offset + px->first;
      if constexpr (channels_on_vector) {
        t.a = px->base;
        if (pixels.panels) t.a_k = px->width;
        t.row_offset = offset;
        by_rows[px->count - 1](t);
      } else {
        t.b = px->base;
        if (pixels.panels) t.b_k = px->width;
        t.col_offset = offset;
        t.cols = static_cast<int>(px->count);
        if (px->tail)
          run_tail(t, g, b, pixels, *px, tile, s);
        else
          (px->width > lanes ? wide : narrow)(t);
      }
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

  // What the operands of all tiles of pixels have in common. Without panels: a segment per tap, channels along it; the
  // weight panel is read in the same order.
  static void set_operands(GemmTile<T>& t, const GatherBlocking& b, const Operand& pixels, int64_t depth,
                           const WeightTile& tile, GatherScratch<T>& s, const T* panel) {
    const int64_t taps = pixels.taps, w_step = b.by_taps ? tile.width : tile.width * taps;
    int64_t* const w_tap = s.tap_step;
    for (int64_t i = 0; pixels.tap && i < taps; ++i) w_tap[i] = i * tile.width * (b.by_taps ? pixels.channels : 1);
    t.segments = taps;
    t.depth = pixels.panels ? depth : pixels.channels;
    t.a_row = b.channels_on_vector ? b.stage.pixel_step : 1;
    if (b.channels_on_vector) {
      t.a_k = pixels.channel, t.a_segment = pixels.tap;
      t.b = panel, t.b_k = w_step, t.b_segment = pixels.tap ? w_tap : nullptr;
    } else {
      t.a = panel, t.a_k = w_step, t.a_segment = pixels.tap ? w_tap : nullptr;
      t.b_k = pixels.channel, t.b_segment = pixels.tap;
    }
  }

  // A whole vector would reach behind the source: this tile gets a panel, read tap by tap as its neighbours are, so
  // that the order of a sum does not depend on where the tiles end. All tiles of weights meet the same panel.
  void run_tail(GemmTile<T> t, const Gather& g, const GatherBlocking& b, Operand& pixels, const PixelTile<T>& px,
                const WeightTile& tile, GatherScratch<T>& s) {
    if (pixels.tail != px.first) pack_tile(g, b, pixels.block, px, pixels.base, pixels.channels, s, s.panel);
    pixels.tail = px.first;
    int64_t* const panel_tap = s.tap_step + pixels.taps;
    for (int64_t i = 0; i < pixels.taps; ++i) panel_tap[i] = i * px.width;
    t.b = s.panel, t.b_k = px.width * pixels.taps, t.b_segment = panel_tap;
    gemm_.run(t, static_cast<int>(tile.count), static_cast<int>(px.width / gemm_.lanes));
  }

  int64_t channel_step_of(const Gather& g) const { return nhwc() ? 1 : dst_pixels(g); }
  int64_t pixel_step_of(const Gather& g) const { return g.w().dst_step * (nhwc() ? dst_channels(g) : 1); }

  // The steps of a tile's results, where its pixels are evenly spaced.
  void set_result(GemmTile<T>& t, const Gather& g, const GatherBlocking& b, const WeightTile& tile) const {
    const int64_t channel_step = channel_step_of(g), pixel_step = pixel_step_of(g);
    t.c_row = b.channels_on_vector ? pixel_step : channel_step;
    t.c_col = b.channels_on_vector ? channel_step : pixel_step;
    t.cols = static_cast<int>(tile.count);
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
  std::vector<GatherScratch<T>> scratch_;
  std::vector<int64_t> last_block_;
};

}  // namespace

void prepare_gathers(ConvPlan& plan, PixelRead read) {
  const ConvProblem& p = plan.problem;
  for (const Gather& g : plan.gathers) {
    GatherBlocking b = block_gather(p, g, plan.machine, plan.threads, read);
    b.first_item = plan.blocking.items;
    plan.blocking.items += p.batch * p.groups * b.blocks() * b.c_splits;
    plan.blocking.gathers.push_back(std::move(b));
  }
  const size_t element = size_of(p.dtype);
  const auto read_once = [&p](const GatherBlocking& b) { return p.batch * b.blocks() == 1; };
  plan.packs_in_run = std::ranges::all_of(plan.blocking.gathers, read_once);
  plan.packed_bytes = static_cast<size_t>(lay_out_weights(plan)) * element;
  plan.blocking.thread_bytes =
      p.dtype == DType::float32 ? gather_thread_bytes<float>(plan) : gather_thread_bytes<double>(plan);
  plan.workspace_bytes = align_up((static_cast<size_t>(p.bias_length()) + 2 * kPackSlack) * element) +
                         static_cast<size_t>(plan.threads) * plan.blocking.thread_bytes;
}

double gathers_cost(const ConvProblem& p, const Machine& machine, int threads, PixelRead read) {
  double cycles = 0;
  for (const Gather& g : make_gathers(p))
    cycles += gather_cycles(p, g, block_gather(p, g, machine, threads, read), machine);
  return cycles * static_cast<double>(p.batch) * static_cast<double>(p.groups) / threads;
}

void run_gathers(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace, Interrupt& interrupt) {
  visit_dtype(plan.problem.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (!covers_result(plan.gathers)) fill_uncovered<T>(plan, operands);
    GatherRun<T> run(plan, operands, workspace);
    parallel_items(plan, interrupt, [&](int64_t item, int thread) { run.item(item, thread, interrupt); });
  });
}

}  // namespace fastconv
