// Depthwise from the image itself: planes are read in place, under masks at their left and right edges.
//
//   for item = (image, group, part of the rows):                              one thread each
//     for phase (one, but for the gradient of a stride), result channel, depth:
//       for source channel, tap in depth:  depthwise tile over the rows of the part
//       two phases whose columns alternate:  pairs tile
//       other rows of a phase whose columns are not neighbours leave through a small block
//
// All phases of a part follow each other, so that the lines of the result are still in L2 when the next one comes.
#include <algorithm>

#include "../buffer.h"
#include "depthwise_pixels.h"

namespace fastconv {
namespace {

// Results per part: few enough that the block of a phase stays in L1 and an interruption is seen soon, and many enough
// that the rows shared by two parts do not matter. Planes of up to 128 x 128 are one part.
constexpr int64_t kPartPixels = 128 * 128;
constexpr int64_t kBlockPixels = 6 * 1024;

// Products of an item, at most, where a plane does not have more: some 10 us, long beside a look at the clock.
constexpr double kItemProducts = 512 * 1024;

bool strided_store(const ConvPlan& plan) {
  for (const Gather& g : plan.gathers)
    if (g.w().dst_step != 1) return true;
  return false;
}

int64_t parts_of(const ConvPlan& plan) {
  int64_t parts = 1;
  const int64_t most = strided_store(plan) ? kBlockPixels : kPartPixels;
  for (const Gather& g : plan.gathers) {
    const int64_t rows = std::max<int64_t>(1, most / g.w().dst);
    parts = std::max(parts, ceil_div(g.h().dst, rows));
  }
  const int64_t planes = plan.problem.batch * plan.problem.groups;
  // A few parts for every thread; the sums do not depend on them.
  if (plan.threads > 1 && planes < 4 * plan.threads)
    parts = std::max(parts, ceil_div(4 * plan.threads, std::max<int64_t>(1, planes)));
  return parts;
}

// Parts of planes, one after the other in memory, that an item computes.
Split items_of(const ConvPlan& plan) {
  const ConvProblem& p = plan.problem;
  const int64_t parts = p.batch * p.groups * parts_of(plan);
  const double products = p.flops() / 2 / static_cast<double>(std::max<int64_t>(1, parts));
  const int64_t together = std::max<int64_t>(1, static_cast<int64_t>(kItemProducts / std::max(1.0, products)));
  // Several items for every thread.
  const int64_t items = std::max(ceil_div(parts, together), std::min<int64_t>(parts, 4 * (plan.threads - 1)));
  return {parts, std::max<int64_t>(1, items)};
}

// Whether the images come from memory: what a call reads and writes is more than a quarter of L3, which others share.
// Where they are in cache, what asks for them takes the place of loads.
bool from_memory(const ConvPlan& plan) {
  const ConvProblem& p = plan.problem;
  const int64_t x = p.in_c * p.d().in * p.h().in * p.w().in, y = p.out_c * p.d().out * p.h().out * p.w().out;
  return p.batch * (x + y) * static_cast<int64_t>(size_of(p.dtype)) > plan.machine.l3_bytes / 4;
}

template <class T>
struct Scratch {
  T *filter, *block;
  int64_t* column;
  Scratch(Carver& carver, const ConvPlan& plan) {
    int64_t taps = 0, pixels = 0;
    const int64_t parts = parts_of(plan);
    for (const Gather& g : plan.gathers) {
      taps = std::max(taps, g.taps());
      pixels = std::max(pixels, ceil_div(g.h().dst, parts) * g.w().dst);
    }
    filter = carver.take<T>(2 * taps);  // of two phases
    column = carver.take<int64_t>(taps);
    block = carver.take<T>(strided_store(plan) ? pixels : 0);
  }
};

template <class T>
class ImageRun {
 public:
  ImageRun(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace)
      : plan_(plan),
        p_(plan.problem),
        forward_(plan.problem.direction == Direction::forward),
        parts_(parts_of(plan)),
        items_(items_of(plan)),
        ahead_(from_memory(plan)),
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
    for (int64_t unit = items_.begin(item); unit < items_.begin(item + 1); ++unit) {
      const int64_t part = unit % parts_, group = unit / parts_ % p_.groups, image = unit / parts_ / p_.groups;
      for (size_t i = 0; i < plan_.gathers.size(); ++i) {
        const Gather& g = plan_.gathers[i];
        const Split rows{g.h().dst, parts_};
        if (rows.size(part) == 0) continue;
        if (i + 1 < plan_.gathers.size() && alternate(g, plan_.gathers[i + 1])) {
          const Gather& next = plan_.gathers[++i];
          const bool even = g.w().dst_start == 0;
          for (int64_t j = 0; j < g.dst_c; ++j)
            for (int64_t d = 0; d < g.d().dst; ++d)
              pair(even ? g : next, even ? next : g, image, group, j, d, rows.begin(part), rows.size(part),
                   scratch_[thread]);
          continue;
        }
        for (int64_t j = 0; j < g.dst_c; ++j)
          for (int64_t d = 0; d < g.d().dst; ++d) {
            if (items_.parts == items_.count && interrupt.stop_here(thread)) return;  // long ones, one to an item
            plane(g, image, group, j, d, rows.begin(part), rows.size(part), scratch_[thread]);
          }
      }
    }
  }

 private:
  // Rows [row0, row0 + rows) at depth d of result channel j.
  void plane(const Gather& g, int64_t image, int64_t group, int64_t j, int64_t d, int64_t row0, int64_t rows,
             Scratch<T>& s) const {
    const Walk &z = g.d(), &h = g.h(), &w = g.w();
    const int64_t channel = group * g.dst_c + j;
    DepthwiseTile<T> t{};
    t.x_row = t.in_w = w.src;
    t.first_h = h.least_offset() + row0 * h.src_step;
    t.step_h = h.src_step;
    t.tap_h = h.taps > 1 ? std::abs(h.offset_step) : 1;
    t.step_w = w.src_step;
    for (int64_t tw = 0; tw < w.taps; ++tw) s.column[tw] = w.least_offset() + tw * std::abs(w.offset_step);
    t.column = s.column;
    t.ker_h = h.taps;
    t.ker_w = w.taps;
    t.rows = rows;
    t.cols = w.dst;
    t.ahead = ahead_;
    t.bias = bias_ ? bias_[channel] : T{0};
    T* const y = dst_ + ((image * p_.groups * g.dst_c + channel) * z.dst_full + z.dst_start + d * z.dst_step) *
                            h.dst_full * w.dst_full;
    T* const first = y + (h.dst_start + row0 * h.dst_step) * w.dst_full + w.dst_start;
    const bool direct = w.dst_step == 1;
    t.y = direct ? first : s.block;
    t.y_row = direct ? h.dst_step * w.dst_full : w.dst;
    t.add = residual_ ? residual_ + (first - dst_) : nullptr;  // only a forward problem has one
    sum_over_taps(g, image, group, j, d, t, s);
    if (curve_) curve_({t.y, t.y_row, 1, t.rows, t.cols});
    if (direct) return;
    for (int64_t r = 0; r < rows; ++r) {
      const T* const from = s.block + r * w.dst;
      T* const to = first + r * h.dst_step * w.dst_full;
      for (int64_t q = 0; q < w.dst; ++q) to[q * w.dst_step] = from[q];
    }
  }

  // Whether two phases differ in the width alone, where one has the even columns of the result and the other the odd.
  bool alternate(const Gather& a, const Gather& b) const {
    const Walk &wa = a.w(), &wb = b.w();
    const auto same = [](const Walk& one, const Walk& other) {
      return one.dst_start == other.dst_start && one.dst == other.dst && one.taps == other.taps;
    };
    return a.src_c == 1 && a.d().taps == 1 && wa.dst_step == 2 && wb.dst_step == 2 &&
           wa.dst_start + wb.dst_start == 1 && (wa.offset_step == wb.offset_step || wa.taps == 1 || wb.taps == 1) &&
           same(a.d(), b.d()) && same(a.h(), b.h());
  }

  // As `plane`, for the even and the odd columns.
  void pair(const Gather& even, const Gather& odd, int64_t image, int64_t group, int64_t j, int64_t d, int64_t row0,
            int64_t rows, Scratch<T>& s) const {
    const Walk &z = even.d(), &h = even.h(), &w = even.w();
    const int64_t channel = group * even.dst_c + j, slice = z.position(d, 0), slices = image * p_.groups + group;
    const bool nothing = outside(z, slice);  // bias and activation alone
    DepthwisePairs<T> t{};
    t.x_row = t.in_w = w.src;
    t.in_h = nothing ? 0 : h.src;
    t.x = src_ + (nothing ? 0 : (slices * z.src + slice) * h.src * w.src);
    t.first_h = h.least_offset() + row0;
    t.tap_h = h.taps > 1 ? std::abs(h.offset_step) : 1;
    t.tap_w = std::max(distance(w), distance(odd.w()));
    t.ker_h = h.taps;
    const int64_t of = group * p_.out_c_group();
    t.side[0] = {filter(even, of, 0, s.filter), w.least_offset(), w.taps};
    t.side[1] = {filter(odd, of, 0, s.filter + even.taps()), odd.w().least_offset(), odd.w().taps};
    t.y =
        dst_ + (((image * p_.groups * even.dst_c + channel) * z.dst_full + z.dst_start + d * z.dst_step) * h.dst_full +
                h.dst_start + row0 * h.dst_step) *
                   w.dst_full;
    t.y_row = h.dst_step * w.dst_full;
    t.rows = rows;
    t.cols = w.dst_full;
    t.bias = bias_ ? bias_[channel] : T{0};
    set_clamp(t, p_.activation, true);
    kernel_.pairs(t);
    if (curve_) curve_({t.y, t.y_row, 1, t.rows, t.cols});
  }

  void sum_over_taps(const Gather& g, int64_t image, int64_t group, int64_t j, int64_t d, DepthwiseTile<T>& t,
                     Scratch<T>& s) const {
    const Walk &z = g.d(), &h = g.h(), &w = g.w();
    int64_t td0 = 0, td1 = z.taps;  // those inside the source
    while (td0 < td1 && outside(z, z.position(d, td0))) ++td0;
    while (td1 > td0 && outside(z, z.position(d, td1 - 1))) --td1;
    const bool nothing = td0 == td1;  // bias and activation alone
    if (nothing) td1 = td0 + 1;
    for (int64_t c = 0; c < g.src_c; ++c)
      for (int64_t td = td0; td < td1; ++td) {
        const int64_t slice = (image * p_.groups + group) * g.src_c + c;
        t.in_h = nothing ? 0 : h.src;
        t.x = src_ + (nothing ? 0 : (slice * z.src + z.position(d, td)) * h.src * w.src);
        t.w = nothing ? s.filter : filter(g, group * p_.out_c_group() + (forward_ ? j : c), td, s.filter);
        set_clamp(t, p_.activation, c + 1 == g.src_c && td + 1 == td1);
        kernel_.run(t);
        t.add = t.y, t.bias = T{0};
      }
  }

  static bool outside(const Walk& walk, int64_t at) { return at < 0 || at >= walk.src; }

  // The taps of depth td, in the order of the source's rows and columns.
  const T* filter(const Gather& g, int64_t filter, int64_t td, T* to) const {
    const Walk &z = g.d(), &h = g.h(), &w = g.w();
    const T* const from = w_ + filter * p_.taps() + (z.tap_start + td * z.tap_step) * p_.h().kernel * p_.w().kernel;
    if (forward_) return from;
    for (int64_t th = 0; th < h.taps; ++th)
      for (int64_t tw = 0; tw < w.taps; ++tw) {
        const int64_t tap_h = h.tap_start + (h.offset_step < 0 ? h.taps - 1 - th : th) * h.tap_step;
        const int64_t tap_w = w.tap_start + (w.offset_step < 0 ? w.taps - 1 - tw : tw) * w.tap_step;
        to[th * w.taps + tw] = from[tap_h * p_.w().kernel + tap_w];
      }
    return to;
  }

  const ConvPlan& plan_;
  const ConvProblem& p_;
  const bool forward_;
  const int64_t parts_;
  const Split items_;
  const bool ahead_;
  const DepthwiseKernel<T>& kernel_;
  const T *src_, *w_, *bias_, *residual_;
  const CurveFunction<T> curve_;
  T* dst_;
  std::vector<Scratch<T>> scratch_;
};

}  // namespace

void prepare_depthwise_image(ConvPlan& plan) {
  plan.blocking.items = plan.problem.batch == 0 ? 0 : items_of(plan).parts;
  plan.blocking.thread_bytes = visit_dtype(plan.problem.dtype, [&](auto zero) {
    Carver carver(nullptr);
    const Scratch<decltype(zero)> scratch(carver, plan);
    return carver.used();
  });
  plan.workspace_bytes = static_cast<size_t>(plan.threads) * plan.blocking.thread_bytes;
}

void run_depthwise_image(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace,
                         Interrupt& interrupt) {
  visit_dtype(plan.problem.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (!covers_result(plan.gathers)) fill_uncovered<T>(plan, operands);
    ImageRun<T> run(plan, operands, workspace);
    parallel_for(plan.blocking.items, plan.threads, interrupt,
                 [&](int64_t item, int thread) { run.item(item, thread, interrupt); });
  });
}

}  // namespace fastconv
