// Depthwise from padded copies of the planes; takes every problem with one input channel per group.
//
//   for item = (phase, image, batch of groups, block of rows):        one thread each
//     stage of the batch's planes                                     in L1 (stage.h)
//     for group, result channel, source channel, tap in depth:
//       depthwise tile over the block: rows of results, vectors along the width
//     results that are not neighbours in memory (channels last, strided gradients) leave through a small block
#include <algorithm>
#include <cmath>
#include <cstring>

#include "../buffer.h"
#include "depthwise_nests.h"

namespace fastconv {
namespace {

// Planes staged together: channels last are read 16 at a time, a cache line of floats.
constexpr int64_t kBatchChannelsLast = 16;

int64_t batch_of(const ConvProblem& p) {
  return p.layout == Layout::nhwc ? std::min<int64_t>(kBatchChannelsLast, p.groups) : 1;
}

template <class T>
struct Scratch {
  T *stage, *filter, *block;
  int64_t* column;
  Scratch(Carver& carver, const ConvPlan& plan) {
    int64_t stage_size = 0, pixels = 0, taps = 0;
    const int64_t batch = batch_of(plan.problem);
    for (size_t i = 0; i < plan.gathers.size(); ++i) {
      const GatherBlocking& b = plan.blocking.gathers[i];
      stage_size = std::max(stage_size, b.stage.elements(batch * plan.gathers[i].src_c));
      pixels = std::max(pixels, b.block_rows * b.block_cols * batch * plan.gathers[i].dst_c);
      taps = std::max(taps, plan.gathers[i].taps());
    }
    stage = carver.take<T>(stage_size);
    filter = carver.take<T>(taps);
    block = carver.take<T>(pixels);
    column = carver.take<int64_t>(taps);
  }
};

template <class T>
class DepthwiseRun {
 public:
  DepthwiseRun(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace)
      : plan_(plan),
        p_(plan.problem),
        forward_(plan.problem.direction == Direction::forward),
        pack_(typed<T>(kernels_for(plan.machine.isa).pack)),
        kernel_(typed<T>(kernels_for(plan.machine.isa).depthwise)),
        src_(static_cast<const T*>(forward_ ? operands.x : operands.y)),
        w_(static_cast<const T*>(operands.w)),
        bias_(static_cast<const T*>(operands.bias)),
        residual_(static_cast<const T*>(operands.residual)),
        curve_(curve_of<T>(plan)),
        dst_(static_cast<T*>(forward_ ? operands.y : operands.x)) {
    Carver carver(workspace);
    for (int t = 0; t < plan.threads; ++t) {
      Carver thread(carver.take<std::byte>(static_cast<int64_t>(plan.blocking.thread_bytes)));
      scratch_.emplace_back(thread, plan);
    }
  }

  void item(int64_t item, int thread, Interrupt& interrupt) {
    size_t index = plan_.gathers.size() - 1;
    while (plan_.blocking.gathers[index].first_item > item) --index;
    const Gather& g = plan_.gathers[index];
    const GatherBlocking& b = plan_.blocking.gathers[index];
    int64_t rest = item - b.first_item;
    PixelBlock block;
    block.w0 = rest % b.w_blocks * b.block_cols;
    block.w1 = std::min(g.w().dst, block.w0 + b.block_cols);
    block.h0 = (rest /= b.w_blocks) % b.h_blocks * b.block_rows;
    block.h1 = std::min(g.h().dst, block.h0 + b.block_rows);
    block.d = (rest /= b.h_blocks) % b.d_blocks;
    rest /= b.d_blocks;
    const Split batches{p_.groups, ceil_div(p_.groups, batch_of(p_))};
    const int64_t batch = rest % batches.parts, image = rest / batches.parts;
    Scratch<T>& s = scratch_[thread];
    stage_batch(g, b, block, image, batches.begin(batch), batches.size(batch), s);
    const int64_t channel0 = batches.begin(batch) * g.dst_c, channels = batches.size(batch) * g.dst_c;
    if (residual_ && !direct_store(g)) gather_residual(g, block, image, channel0, channels, s);
    for (int64_t group = batches.begin(batch); group < batches.begin(batch + 1); ++group)
      for (int64_t j = 0; j < g.dst_c && !interrupt.stop_here(thread); ++j)
        channel(g, b, block, image, group, group - batches.begin(batch), j, s);
    if (!direct_store(g)) scatter(g, block, image, channel0, channels, s);
  }

 private:
  bool nhwc() const { return p_.layout == Layout::nhwc; }
  bool direct_store(const Gather& g) const { return !nhwc() && g.w().dst_step == 1; }
  static int64_t dst_pixels(const Gather& g) { return g.d().dst_full * g.h().dst_full * g.w().dst_full; }

  void stage_batch(const Gather& g, const GatherBlocking& b, const PixelBlock& block, int64_t image, int64_t group,
                   int64_t groups, Scratch<T>& s) const {
    const int64_t pixels = g.d().src * g.h().src * g.w().src, channels = p_.groups * g.src_c;
    const int64_t unit = nhwc() ? channels : 1;
    const T* const first = src_ + image * channels * pixels + group * g.src_c * (nhwc() ? 1 : pixels);
    const Source<T> source{first, nhwc() ? 1 : pixels, g.h().src * g.w().src * unit, g.w().src * unit, unit};
    fill_stage(b.stage, g, source, block, groups * g.src_c, pack_, s.stage);
  }

  // The taps of depth td as the tile wants them: rows of the filter in the order of the stage's rows.
  void load_filter(const Gather& g, const GatherBlocking& b, int64_t filter, int64_t td, DepthwiseTile<T>& t,
                   Scratch<T>& s) const {
    const Walk &d = g.d(), &h = g.h(), &w = g.w();
    const int64_t* const offset = b.stage.tap_offset.data() + td * h.taps * w.taps;
    const bool reversed = h.offset_step < 0;
    t.tap_h = h.taps > 1 ? std::abs(offset[w.taps] - offset[0]) / b.stage.row : 1;
    const int64_t first_row = reversed ? (h.taps - 1) * w.taps : 0;
    for (int64_t tw = 0; tw < w.taps; ++tw) s.column[tw] = offset[first_row + tw];
    const T* const from = w_ + filter * p_.taps();
    for (int64_t th = 0; th < h.taps; ++th)
      for (int64_t tw = 0; tw < w.taps; ++tw) {
        const int64_t tap_h = h.tap_start + (reversed ? h.taps - 1 - th : th) * h.tap_step;
        s.filter[th * w.taps + tw] = from[((d.tap_start + td * d.tap_step) * p_.h().kernel + tap_h) * p_.w().kernel +
                                          w.tap_start + tw * w.tap_step];
      }
  }

  // Result channel j of a group over the block, the group's planes at `slot` of the stage.
  void channel(const Gather& g, const GatherBlocking& b, const PixelBlock& block, int64_t image, int64_t group,
               int64_t slot, int64_t j, Scratch<T>& s) const {
    const int64_t channel = group * g.dst_c + j, groups_channels = p_.groups * g.dst_c;
    DepthwiseTile<T> t{};
    t.x_row = b.stage.row;
    t.in_h = t.in_w = kStaged;
    t.step_h = b.stage.row_step;
    t.step_w = 1;
    t.column = s.column;
    t.w = s.filter;
    t.ker_h = g.h().taps;
    t.ker_w = g.w().taps;
    t.rows = block.h1 - block.h0;
    t.cols = block.cols();
    t.bias = bias_ ? bias_[channel] : T{0};
    if (direct_store(g)) {
      const Walk &d = g.d(), &h = g.h();
      const int64_t row = (d.dst_start + block.d * d.dst_step) * h.dst_full + h.dst_start + block.h0 * h.dst_step;
      t.y = dst_ + (image * groups_channels + channel) * dst_pixels(g) + row * g.w().dst_full + g.w().dst_start +
            block.w0;
      t.y_row = h.dst_step * g.w().dst_full;
      t.add = residual_ ? residual_ + (t.y - dst_) : nullptr;
    } else {
      t.y = s.block + (slot * g.dst_c + j) * block.pixels();
      t.y_row = block.cols();
      t.add = residual_ ? t.y : nullptr;
    }
    for (int64_t c = 0; c < g.src_c; ++c)
      for (int64_t td = 0; td < g.d().taps; ++td) {
        load_filter(g, b, group * p_.out_c_group() + (forward_ ? j : c), td, t, s);
        t.x = s.stage + (slot * g.src_c + c) * b.stage.plane;
        set_clamp(t, p_.activation, c + 1 == g.src_c && td + 1 == g.d().taps);
        kernel_.run(t);
        t.add = t.y, t.bias = T{0};
      }
    if (curve_) curve_({t.y, t.y_row, 1, t.rows, t.cols});
  }

  // The residual to the small block, where the results will be: forward, channels last.
  void gather_residual(const Gather& g, const PixelBlock& block, int64_t image, int64_t channel0, int64_t channels,
                       Scratch<T>& s) const {
    const int64_t unit = p_.groups * g.dst_c;
    for (int64_t jh = block.h0; jh < block.h1; ++jh) {
      const int64_t row = ((image * g.d().dst + block.d) * g.h().dst + jh) * g.w().dst + block.w0;
      T* const to = s.block + (jh - block.h0) * block.cols();
      pack_.transpose(
          {to, block.pixels(), block.cols(), residual_ + row * unit + channel0, unit, block.cols(), channels});
    }
  }

  // The small block [channel][pixel] to where its results belong.
  void scatter(const Gather& g, const PixelBlock& block, int64_t image, int64_t channel0, int64_t channels,
               Scratch<T>& s) const {
    const Walk &d = g.d(), &h = g.h(), &w = g.w();
    const int64_t all = p_.groups * g.dst_c, unit = nhwc() ? all : 1, plane = nhwc() ? 1 : dst_pixels(g);
    T* const base = dst_ + image * all * dst_pixels(g) + channel0 * plane;
    for (int64_t jh = block.h0; jh < block.h1; ++jh) {
      const int64_t row =
          ((d.dst_start + block.d * d.dst_step) * h.dst_full + h.dst_start + jh * h.dst_step) * w.dst_full;
      T* const to = base + (row + w.dst_start + block.w0 * w.dst_step) * unit;
      const T* const from = s.block + (jh - block.h0) * block.cols();
      if (nhwc()) {  // [channel][pixel] -> [pixel][channel]
        pack_.transpose({to, w.dst_step * unit, channels, from, block.pixels(), channels, block.cols()});
        continue;
      }
      for (int64_t c = 0; c < channels; ++c)
        for (int64_t q = 0; q < block.cols(); ++q) to[c * plane + q * w.dst_step] = from[c * block.pixels() + q];
    }
  }

  const ConvPlan& plan_;
  const ConvProblem& p_;
  const bool forward_;
  const PackKernel<T>& pack_;
  const DepthwiseKernel<T>& kernel_;
  const T *src_, *w_, *bias_, *residual_;
  const CurveFunction<T> curve_;
  T* dst_;
  std::vector<Scratch<T>> scratch_;
};

// Rows whose stage and results take half of L1.
GatherBlocking block_planes(const ConvProblem& p, const Gather& g, const Machine& machine) {
  GatherBlocking b;
  const int64_t bytes = static_cast<int64_t>(size_of(p.dtype));
  const int64_t planes = batch_of(p) * (g.src_c * g.d().taps * g.h().src_step * g.w().src_step + g.dst_c);
  const int64_t room = std::max<int64_t>(machine.lanes(bytes), machine.l1_bytes / 2 / bytes / planes);
  b.block_cols = std::min(g.w().dst, std::max<int64_t>(64, room / 4));
  // Whole tiles of four rows, and at least as many rows as the windows share with the next block.
  const int64_t rows = std::max(g.h().taps, room / b.block_cols / 4 * 4);
  b.block_rows = std::clamp<int64_t>(rows, 1, g.h().dst);
  b.d_blocks = g.d().dst;
  b.h_blocks = ceil_div(g.h().dst, b.block_rows);
  b.w_blocks = ceil_div(g.w().dst, b.block_cols);
  b.stage = make_stage(g, p.layout, b.block_rows, b.block_cols, false);
  return b;
}

}  // namespace

void prepare_depthwise_staged(ConvPlan& plan) {
  const ConvProblem& p = plan.problem;
  for (const Gather& g : plan.gathers) {
    GatherBlocking b = block_planes(p, g, plan.machine);
    b.first_item = plan.blocking.items;
    plan.blocking.items += p.batch * ceil_div(p.groups, batch_of(p)) * b.blocks();
    plan.blocking.gathers.push_back(std::move(b));
  }
  plan.blocking.thread_bytes = visit_dtype(p.dtype, [&](auto zero) {
    Carver carver(nullptr);
    const Scratch<decltype(zero)> scratch(carver, plan);
    return carver.used();
  });
  plan.workspace_bytes = static_cast<size_t>(plan.threads) * plan.blocking.thread_bytes;
}

void run_depthwise_staged(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace,
                          Interrupt& interrupt) {
  visit_dtype(plan.problem.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (!covers_result(plan.gathers)) fill_uncovered<T>(plan, operands);
    DepthwiseRun<T> run(plan, operands, workspace);
    parallel_items(plan, interrupt, [&](int64_t item, int thread) { run.item(item, thread, interrupt); });
  });
}

}  // namespace fastconv
