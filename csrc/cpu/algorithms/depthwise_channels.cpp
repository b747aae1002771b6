// Depthwise with the channels last: lanes are channels, and nothing is copied.
//
//   filters packed once: [phase][tap][channel], taps in the order of the rows and columns that they read
//   for item = (image, block of rows):        one thread each
//     for phase, depth, tap in depth:  channels tile (kernels/depthwise/channels.h) over the block
//
// A stride or a phase is only another distance between pixels, so that every direction and stride reads in place.
#include <algorithm>

#include "../buffer.h"
#include "depthwise_pixels.h"

namespace fastconv {
namespace {

// Results of a block: enough to hide the call, few enough that an interruption is seen soon.
constexpr int64_t kBlockResults = 64 * 1024;

int64_t blocks_of(const ConvPlan& plan) {
  const ConvProblem& p = plan.problem;
  int64_t blocks = 1, rows = 1;
  for (const Gather& g : plan.gathers) {
    const int64_t fit = std::max<int64_t>(1, kBlockResults / std::max<int64_t>(1, g.w().dst * p.groups));
    blocks = std::max(blocks, ceil_div(g.h().dst, fit));
    rows = std::max(rows, g.h().dst);
  }
  if (plan.threads > 1) blocks = std::max(blocks, ceil_div(8 * plan.threads, std::max<int64_t>(1, p.batch)));
  return std::min(blocks, ceil_div(rows, 2));  // tiles of AVX-512 take two rows
}

template <class T>
class ChannelsRun {
 public:
  ChannelsRun(const ConvPlan& plan, const ConvOperands& operands)
      : plan_(plan),
        p_(plan.problem),
        forward_(plan.problem.direction == Direction::forward),
        blocks_(blocks_of(plan)),
        kernel_(typed<T>(kernels_for(plan.machine.isa).depthwise)),
        src_(static_cast<const T*>(forward_ ? operands.x : operands.y)),
        packed_(static_cast<const T*>(operands.packed)),
        bias_(static_cast<const T*>(operands.bias)),
        residual_(static_cast<const T*>(operands.residual)),
        curve_(curve_of<T>(plan)),
        dst_(static_cast<T*>(forward_ ? operands.y : operands.x)) {}

  void item(int64_t item, int thread, Interrupt& interrupt) const {
    const int64_t block = item % blocks_, image = item / blocks_;
    const T* w = packed_;
    for (const Gather& g : plan_.gathers) {
      const Split rows{g.h().dst, blocks_};
      for (int64_t d = 0; d < g.d().dst && !interrupt.stop_here(thread); ++d)
        if (rows.size(block)) block_rows(g, w, image, d, rows.begin(block), rows.size(block));
      w += g.taps() * p_.groups;
    }
  }

 private:
  void block_rows(const Gather& g, const T* w, int64_t image, int64_t d, int64_t row0, int64_t rows) const {
    const Walk &z = g.d(), &h = g.h(), &c = g.w();
    const int64_t channels = p_.groups;
    DepthwisePixels<T> t = pixels_of<T>(p_, g, channels);
    t.first_h += row0 * t.step_h;
    t.y = dst_ + (((image * z.dst_full + z.dst_start + d * z.dst_step) * h.dst_full + h.dst_start + row0 * h.dst_step) *
                      c.dst_full +
                  c.dst_start) *
                     channels;
    t.y_row = h.dst_step * c.dst_full * channels;
    t.y_col = c.dst_step * channels;
    t.rows = rows;
    t.channels = channels;
    t.bias = bias_;
    t.add = residual_ ? residual_ + (t.y - dst_) : nullptr;
    const auto inside = [&](int64_t td) { return z.position(d, td) >= 0 && z.position(d, td) < z.src; };
    int64_t td0 = 0, td1 = z.taps;
    while (td0 < td1 && !inside(td0)) ++td0;
    while (td1 > td0 && !inside(td1 - 1)) --td1;
    const bool nothing = td0 == td1;  // bias and activation alone
    if (nothing) td1 = td0 + 1;
    t.in_h = nothing ? 0 : h.src;
    for (int64_t td = td0; td < td1; ++td) {
      t.x = src_ + (nothing ? 0 : (image * z.src + z.position(d, td)) * h.src * t.x_row);
      t.w = nothing ? w : w + td * h.taps * c.taps * channels;
      set_clamp(t, p_.activation, td + 1 == td1);
      kernel_.pixels(t);
      t.add = t.y, t.bias = nullptr;
    }
    for (int64_t r = 0; r < rows && curve_; ++r) {
      T* const y = t.y + r * t.y_row;
      curve_(c.dst_step == 1 ? CurveTile<T>{y, 0, 1, 1, t.cols * channels}
                             : CurveTile<T>{y, t.y_col, 1, t.cols, channels});
    }
  }

  const ConvPlan& plan_;
  const ConvProblem& p_;
  const bool forward_;
  const int64_t blocks_;
  const DepthwiseKernel<T>& kernel_;
  const T *src_, *packed_, *bias_, *residual_;
  const CurveFunction<T> curve_;
  T* dst_;
};

}  // namespace

void prepare_depthwise_channels(ConvPlan& plan) {
  plan.blocking.items = plan.problem.batch * blocks_of(plan);
  int64_t taps = 0;
  for (const Gather& g : plan.gathers) taps += g.taps();
  plan.packed_bytes = static_cast<size_t>(taps * plan.problem.groups) * size_of(plan.problem.dtype);
}

void pack_depthwise_channels(const ConvPlan& plan, int64_t width, const void* w, void* packed) {
  const ConvProblem& p = plan.problem;
  // In the order of the source's rows and columns; in depth, that of the walk.
  const auto tap = [](const Walk& walk, int64_t t) {
    return walk.tap_start + (walk.offset_step < 0 ? walk.taps - 1 - t : t) * walk.tap_step;
  };
  visit_dtype(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    T* to = static_cast<T*>(packed);
    for (int64_t first = 0; first < p.groups; first += width) {
      const T* const from = static_cast<const T*>(w) + first * p.taps();
      const int64_t channels = std::min(width, p.groups - first);
      for (const Gather& g : plan.gathers)
        for (int64_t td = 0; td < g.d().taps; ++td)
          for (int64_t th = 0; th < g.h().taps; ++th)
            for (int64_t tw = 0; tw < g.w().taps; ++tw, to += width) {
              const int64_t depth = g.d().tap_start + td * g.d().tap_step;
              const int64_t at = (depth * p.h().kernel + tap(g.h(), th)) * p.w().kernel + tap(g.w(), tw);
              for (int64_t c = 0; c < channels; ++c) to[c] = from[c * p.taps() + at];
              std::fill(to + channels, to + width, T{0});
            }
    }
  });
}

void run_depthwise_channels(const ConvPlan& plan, const ConvOperands& operands, std::byte*, Interrupt& interrupt) {
  visit_dtype(plan.problem.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (!covers_result(plan.gathers)) fill_uncovered<T>(plan, operands);
    const ChannelsRun<T> run(plan, operands);
    parallel_for(plan.blocking.items, plan.threads, interrupt,
                 [&](int64_t item, int thread) { run.item(item, thread, interrupt); });
  });
}

}  // namespace fastconv
