#include "phase_nest.h"

#include <algorithm>

#include "../buffer.h"
#include "ahead.h"
#include "weight_panels.h"

namespace fastconv {
namespace {

// Cycles per result to store it and to bring it to its place; how much slower tiles run out of L2. Fitted on Zen 3.
constexpr double kStore = 0.6, kFromL2 = 1.04;
constexpr int64_t kLine = 64;
// More phases would only hold more rows in L1: beyond it each stores alone.
constexpr int64_t kMostPhases = 4;

int64_t bytes_of(const ConvProblem& p) { return static_cast<int64_t>(size_of(p.dtype)); }

// The gathers of an input gradient come with the phases of the width innermost.
int64_t phase_count(const ConvProblem& p) { return p.w().stride; }

// A gather that reads what all phases of the width read, as if each offset between the outermost were a tap.
Gather united(const Gather* phases, int64_t count) {
  Gather g = phases[0];
  Walk& w = g.walks[2];
  int64_t low = w.least_offset(), high = w.most_offset();
  for (int64_t i = 1; i < count; ++i) {
    low = std::min(low, phases[i].w().least_offset());
    high = std::max(high, phases[i].w().most_offset());
    w.dst = std::max(w.dst, phases[i].w().dst);
  }
  w.offset = low, w.offset_step = 1, w.taps = high - low + 1;
  return g;
}

// Blocks whose stage takes half of L2 and whose rows of all phases, of one tile of channels, half of L1.
GatherBlocking block_phases(const ConvProblem& p, const Gather& g, const Machine& m, int threads) {
  const int64_t bytes = bytes_of(p), lanes = m.lanes(bytes), room = m.l2_bytes / 2 / bytes;
  const auto staged = [&](int64_t rows, int64_t cols) {
    return g.src_c * make_stage(g, p.layout, rows, cols, false).plane;
  };
  GatherBlocking b;
  b.panels = false;
  b.k_blocks = {g.src_c, 1};
  b.channel_tiles = {g.dst_c, ceil_div(g.dst_c, gemm_rows(m))};
  b.block_cols = g.w().dst;
  while (b.block_cols > 8 * lanes && staged(1, b.block_cols) > room)
    b.block_cols = ceil_div(b.block_cols, 2 * lanes) * lanes;
  const int64_t one = staged(1, b.block_cols), row = std::max<int64_t>(1, staged(2, b.block_cols) - one);
  const int64_t in_l1 = m.l1_bytes / 2 / bytes / (gemm_rows(m) * phase_count(p) * (b.block_cols + g.w().taps - 1));
  b.block_rows = std::clamp<int64_t>(std::min((room - one) / row + 1, in_l1), 1, g.h().dst);
  b.d_blocks = g.d().dst;
  b.w_blocks = ceil_div(g.w().dst, b.block_cols);
  const int64_t units = std::max<int64_t>(1, p.batch * p.groups * b.d_blocks * b.w_blocks);
  const int64_t wanted = threads > 1 ? ceil_div(4 * threads, units) : 1;
  b.h_blocks = std::min(g.h().dst, std::max(wanted, ceil_div(g.h().dst, b.block_rows)));
  b.block_rows = ceil_div(g.h().dst, b.h_blocks);  // blocks of one height, as far as can be
  b.h_blocks = ceil_div(g.h().dst, b.block_rows);
  b.stage = make_stage(g, p.layout, b.block_rows, b.block_cols, false);
  if (threads > 1 && units * b.h_blocks < 8 * threads)
    b.c_splits = std::min(b.channel_tiles.parts, ceil_div(8 * threads, units * b.h_blocks));
  return b;
}

// Where the taps of one phase lie in the stage of all of them.
std::vector<int64_t> taps_of(const Gather& phase, const Gather& all, const Stage& stage) {
  std::vector<int64_t> offsets;
  const Walk& w = phase.w();
  for (int64_t row = 0; row < phase.d().taps * phase.h().taps; ++row)
    for (int64_t t = 0; t < w.taps; ++t)
      offsets.push_back(stage.tap_offset[row * all.w().taps + w.offset + t * w.offset_step - all.w().offset]);
  return offsets;
}

// Results of a block as the tiles see them, padding between the rows included, in whole tiles.
int64_t row_of_results(const GatherBlocking& b, int64_t width) {
  return ceil_div(b.block_rows * b.stage.row, width) * width;
}

// What one thread works in.
template <class T>
struct Scratch {
  T *stage, *weights, *results;
  int64_t* tap_step;

  Scratch(Carver& carver, const ConvPlan& plan) {
    const int64_t width = 2 * plan.machine.lanes(sizeof(T)), phases = phase_count(plan.problem);
    int64_t stage_size = 0, depth = 0, row = 0, taps = 0;
    for (size_t i = 0; i < plan.gathers.size(); ++i) {
      const GatherBlocking& b = plan.blocking.gathers[i];
      stage_size = std::max(stage_size, b.stage.elements(b.k_blocks.count));
      depth = std::max(depth, plan.gathers[i].depth());
      taps = std::max(taps, plan.gathers[i].taps());
      row = std::max(row, row_of_results(b, width));
    }
    stage = carver.take<T>(stage_size);
    weights = carver.take<T>(depth * kMaxTileRows + kPackSlack);
    results = carver.take<T>(phases * kMaxTileRows * row + kPackSlack);
    tap_step = carver.take<int64_t>(taps);
  }
};

template <class T>
class PhaseRun {
 public:
  PhaseRun(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace)
      : plan_(plan),
        p_(plan.problem),
        phases_(phase_count(p_)),
        gemm_(typed<T>(kernels_for(plan.machine.isa).gemm)),
        pack_(typed<T>(kernels_for(plan.machine.isa).pack)),
        weights_(static_cast<const T*>(operands.w)),
        packed_(static_cast<const T*>(operands.packed)),
        bias_(static_cast<const T*>(operands.bias)),
        src_(static_cast<const T*>(operands.y)),
        dst_(static_cast<T*>(operands.x)),
        curve_(curve_of<T>(plan)),
        last_block_(plan.threads, -1) {
    for (size_t i = 0; i < plan.gathers.size(); i += phases_) united_.push_back(united(&plan.gathers[i], phases_));
    Carver carver(workspace);
    for (int t = 0; t < plan.threads; ++t) {
      Carver thread(carver.take<std::byte>(static_cast<int64_t>(plan.blocking.thread_bytes)));
      scratch_.emplace_back(thread, plan);
    }
  }

  void item(int64_t item, int thread, Interrupt& interrupt) {
    const Work work = work_at(item);
    const Gather& g = united_[work.gather];
    const size_t first = work.gather * phases_;  // of the gathers of its phases
    const GatherBlocking& b = plan_.blocking.gathers[first];
    const Scratch<T>& s = scratch_[thread];
    if (last_block_[thread] != work.block_id)
      fill_stage(b.stage, g, source_at(g, work.image, work.group), work.block, g.src_c, pack_, s.stage);
    last_block_[thread] = work.block_id;
    const int64_t rows = work.block.h1 - work.block.h0, width = gemm_.width();
    const int64_t pixels = (rows - 1) * b.stage.row + work.block.cols(), row = ceil_div(pixels, width) * width;
    const Split parts{b.channel_tiles.parts, b.c_splits};
    Ahead ahead = what_follows(item, work, parts.size(work.split) * phases_ * ceil_div(pixels, width));
    for (int64_t i = parts.begin(work.split); i < parts.begin(work.split + 1) && !interrupt.stop_here(thread); ++i) {
      int64_t count = 0;
      for (int64_t phase = 0; phase < phases_; ++phase) {
        const WeightTile tile = weight_tile(plan_, first + phase, work.group, 0, i);
        count = tile.count;
        T* const results = s.results + phase * count * row;
        multiply(first + phase, tile, pixels, row, results, s, ahead);
        if (curve_) curve_({results, row, 1, count, pixels});
      }
      store(g, b, work, b.channel_tiles.begin(i), count, row, s.results);
    }
  }

 private:
  Work work_at(int64_t item) const { return work_of(united_, plan_.blocking, p_.groups, item, phases_); }

  Source<T> source_at(const Gather& g, int64_t image, int64_t group) const {
    const int64_t row = g.w().src, slice = g.h().src * row, pixels = g.d().src * slice;
    return {src_ + ((image * p_.groups + group) * g.src_c) * pixels, pixels, slice, row, 1};
  }

  Ahead what_follows(int64_t item, const Work& work, int64_t calls) const {
    if (item + 1 >= plan_.blocking.items) return {};
    const Work next = work_at(item + 1);
    if (next.block_id == work.block_id) return {};
    const Gather& g = united_[next.gather];
    return ahead_of_block(g, next.block, source_at(g, next.image, next.group), g.src_c, calls);
  }

  // results[channel][pixel] of one phase, all pixels of a block.
  void multiply(size_t gather, const WeightTile& tile, int64_t pixels, int64_t row, T* results, const Scratch<T>& s,
                Ahead& ahead) const {
    const Gather& g = plan_.gathers[gather];
    const Stage& stage = plan_.blocking.gathers[gather].stage;
    if (!packed_) pack_weight_tile(plan_, gather, tile, weights_, s.weights);
    for (int64_t i = 0; i < g.taps(); ++i) s.tap_step[i] = i * tile.width;
    GemmTile<T> t{};
    t.a = packed_ ? packed_ + tile.packed_offset : s.weights;
    t.a_row = 1, t.a_k = tile.width * g.taps(), t.a_segment = s.tap_step;
    t.b_k = stage.plane, t.b_segment = stage.tap_offset.data();
    t.segments = g.taps(), t.depth = g.src_c;
    t.c_row = row, t.c_col = 1;
    if (bias_) t.row_bias = bias_ + tile.group * g.dst_c + tile.first;
    set_clamp(t, p_.activation, true);
    for (int64_t first = 0; first < pixels; first += gemm_.width()) {
      ahead.some();
      const int vectors = pixels - first <= gemm_.lanes ? 1 : 2;
      t.b = s.stage + first;
      t.c = results + first;
      t.cols = vectors * gemm_.lanes;
      gemm_.run(t, static_cast<int>(tile.count), vectors);
    }
  }

  // `count` channels from `channel` on, to their places.
  void store(const Gather& g, const GatherBlocking& b, const Work& work, int64_t channel, int64_t count, int64_t row,
             const T* results) const {
    const Walk &d = g.d(), &h = g.h(), &w = g.w();
    const int64_t line = w.dst_full, slice = h.dst_full * line, plane = d.dst_full * slice,
                  begin = work.block.w0 * phases_;
    T* dst = dst_ + ((work.image * p_.groups + work.group) * g.dst_c + channel) * plane +
             (d.dst_start + work.block.d * d.dst_step) * slice + (h.dst_start + work.block.h0 * h.dst_step) * line +
             begin;
    const int64_t elements = std::min(line, work.block.w1 * phases_) - begin, rows = work.block.h1 - work.block.h0;
    for (int64_t c = 0; c < count; ++c, dst += plane)
      pack_.interleave({dst, h.dst_step * line, elements, results + c * row, b.stage.row, count * row, phases_, rows});
  }

  const ConvPlan& plan_;
  const ConvProblem& p_;
  const int64_t phases_;
  const GemmKernel<T>& gemm_;
  const PackKernel<T>& pack_;
  const T *weights_, *packed_, *bias_, *src_;
  T* dst_;
  const CurveFunction<T> curve_;
  std::vector<Gather> united_;
  std::vector<Scratch<T>> scratch_;
  std::vector<int64_t> last_block_;
};

double set_cycles(const ConvProblem& p, const Gather* phases, const Machine& m, int threads) {
  const Gather g = united(phases, phase_count(p));
  const GatherBlocking b = block_phases(p, g, m, threads);
  const int64_t lanes = m.lanes(bytes_of(p)), pixels = b.block_rows * b.stage.row, blocks = b.blocks();
  double depth = 0, taps = 0, results = 0;
  for (int64_t i = 0; i < phase_count(p); ++i) {
    depth += static_cast<double>(phases[i].depth());
    taps += static_cast<double>(phases[i].taps());
    results += static_cast<double>(phases[i].pixels() * g.dst_c);
  }
  const double tiles = static_cast<double>(blocks * b.channel_tiles.parts * ceil_div(pixels, 2 * lanes));
  // What a tile reads lies across lines: each tap meets those of the tap before it again, where L1 still holds them.
  const bool far = g.src_c * (2 * lanes * bytes_of(p) + kLine) > m.l1_bytes / 2;
  return static_cast<double>(blocks) * tile_cycles(g.dst_c, gemm_rows(m), pixels, lanes) * depth * kFromL2 +
         tiles * (static_cast<double>(phase_count(p)) * kTile + taps * kSegment + (far ? depth * kJump : 0)) +
         results * kStore + stage_cycles(g, p.layout, lanes);
}

}  // namespace

bool phases_together(const ConvProblem& p, const Machine& m) {
  const int64_t count = phase_count(p);
  if (p.direction != Direction::input_gradient || p.layout != Layout::nchw || count < 2 || count > kMostPhases)
    return false;
  const std::vector<Gather> gathers = make_gathers(p);
  int64_t widths = 0;  // phases of the width that have taps
  while (widths < static_cast<int64_t>(gathers.size()) && gathers[widths].d().dst_start == gathers[0].d().dst_start &&
         gathers[widths].h().dst_start == gathers[0].h().dst_start)
    ++widths;
  if (widths != count) return false;
  const Gather g = united(gathers.data(), count);
  const Walk &w = g.w(), &h = g.h();
  const int64_t lanes = m.lanes(bytes_of(p)), span = h.most_offset() - h.least_offset() + 1;
  return w.taps <= w.dst + lanes && g.d().taps * span * g.src_c <= m.l2_bytes / bytes_of(p) / (8 * lanes);
}

void prepare_phases(ConvPlan& plan) {
  const ConvProblem& p = plan.problem;
  const int64_t phases = phase_count(p);
  for (size_t i = 0; i < plan.gathers.size(); i += phases) {
    const Gather g = united(&plan.gathers[i], phases);
    GatherBlocking b = block_phases(p, g, plan.machine, plan.threads);
    b.first_item = plan.blocking.items;
    plan.blocking.items += p.batch * p.groups * b.blocks() * b.c_splits;
    for (int64_t phase = 0; phase < phases; ++phase) {
      GatherBlocking own = b;
      own.stage.tap_offset = taps_of(plan.gathers[i + phase], g, b.stage);
      plan.blocking.gathers.push_back(std::move(own));
    }
  }
  plan.packed_bytes = static_cast<size_t>(lay_out_weights(plan)) * size_of(p.dtype);
  const auto measure = [&](auto zero) {
    Carver carver(nullptr);
    const Scratch<decltype(zero)> scratch(carver, plan);
    return carver.used();
  };
  plan.blocking.thread_bytes = visit_dtype(p.dtype, measure);
  plan.workspace_bytes = static_cast<size_t>(plan.threads) * align_up(plan.blocking.thread_bytes);
}

double phases_cost(const ConvProblem& p, const Machine& m, int threads) {
  const std::vector<Gather> gathers = make_gathers(p);
  double cycles = 0;
  for (size_t i = 0; i < gathers.size(); i += phase_count(p)) cycles += set_cycles(p, &gathers[i], m, threads);
  return cycles * static_cast<double>(p.batch * p.groups) / threads;
}

void run_phases(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace, Interrupt& interrupt) {
  visit_dtype(plan.problem.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (!covers_result(plan.gathers)) fill_uncovered<T>(plan, operands);
    PhaseRun<T> run(plan, operands, workspace);
    parallel_items(plan, interrupt, [&](int64_t item, int thread) { run.item(item, thread, interrupt); });
  });
}

}  // namespace fastconv
