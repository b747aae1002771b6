// Depthwise of small planes: each is copied between zeros first, into L1, so that no tile needs a mask.
//
//   for item = some planes, one after the other in memory:                     one thread each
//     planes tile (kernels/depthwise/padded.h) over those of one image
//
// Stride 1, rows without dilation, one plane in and one out per group. A plane of 14 x 14 is so little work that
// finding its addresses, masks and filter one by one took longer: the tile goes from plane to plane itself.
#include <algorithm>

#include "../buffer.h"
#include "depthwise_pixels.h"

namespace fastconv {
namespace {

// Products of an item: some 10 us, long beside a look at the clock.
constexpr double kItemProducts = 512 * 1024;

// A copy with the zeros that results read around it, in rows of whole cache lines.
struct Copy {
  int64_t left, top, row, elements;
  Copy(const Gather& g, int64_t lanes, int64_t line) {
    const Walk &h = g.h(), &w = g.w();
    const auto behind = [](const Walk& walk) { return std::max<int64_t>(0, walk.most_offset() + walk.dst - walk.src); };
    left = std::max<int64_t>(0, -w.least_offset());
    top = std::max<int64_t>(0, -h.least_offset());
    row = ceil_div(left + std::max(w.src + behind(w), lanes), line) * line;
    elements = (top + h.src + behind(h)) * row + lanes;  // a vector may begin with the last result
  }
};

Copy copy_of(const ConvProblem& p, const Gather& g, const Machine& machine) {
  const int64_t bytes = static_cast<int64_t>(size_of(p.dtype));
  return {g, machine.lanes(bytes), 64 / bytes};
}

Split items_of(const ConvPlan& plan) {
  const ConvProblem& p = plan.problem;
  const int64_t planes = p.batch * p.groups;
  const double products = static_cast<double>(plan.gathers[0].pixels() * plan.gathers[0].taps());
  const int64_t together = std::max<int64_t>(1, static_cast<int64_t>(kItemProducts / std::max(1.0, products)));
  // Several items for every thread.
  const int64_t items = std::max(ceil_div(planes, together), std::min<int64_t>(planes, 4 * (plan.threads - 1)));
  return {planes, std::max<int64_t>(1, items)};
}

template <class T>
struct Scratch {
  T *copy[2], *add;
  Scratch(Carver& carver, const ConvPlan& plan) {
    const Gather& g = plan.gathers[0];
    for (T*& to : copy) to = carver.take<T>(copy_of(plan.problem, g, plan.machine).elements);
    add = carver.take<T>(g.pixels());
  }
};

template <class T>
void run_item(const ConvPlan& plan, const ConvOperands& operands, const Split& items, int64_t item,
              const Scratch<T>& s) {
  const ConvProblem& p = plan.problem;
  const Gather& g = plan.gathers[0];
  const Walk &h = g.h(), &w = g.w();
  const Copy copy = copy_of(p, g, plan.machine);
  const bool forward = p.direction == Direction::forward;
  const auto run = typed<T>(kernels_for(plan.machine.isa).depthwise).planes[(w.taps - 3) / 2];
  const T *const src = static_cast<const T*>(forward ? operands.x : operands.y),
                 *const filters = static_cast<const T*>(operands.w), *const bias = static_cast<const T*>(operands.bias),
                 *const residual = static_cast<const T*>(operands.residual);
  T* const dst = static_cast<T*>(forward ? operands.y : operands.x);
  const bool added_in_place = residual && residual == dst;
  for (T* const to : s.copy) std::fill_n(to, copy.elements, T{0});

  DepthwisePlanes<T> t{};
  t.from.in_h = h.src;
  t.from.in_w = w.src;
  std::copy_n(s.copy, 2, t.from.copy);
  t.from.first = copy.top * copy.row + copy.left;
  t.from.row = copy.row;
  t.read = (h.least_offset() + copy.top) * copy.row + w.least_offset() + copy.left;
  t.tap_h = distance(h);
  t.tap_w = distance(w);
  t.w_step = forward ? 1 : -1;
  t.rows = h.dst;
  t.cols = w.dst;
  set_clamp(t, p.activation, true);
  const int64_t end = items.begin(item + 1), out = t.rows * t.cols;
  for (int64_t plane = items.begin(item), count; plane < end; plane += count) {
    const int64_t group = plane % p.groups;
    // Results of a tile lie over each other: where they are added to those in y, these are taken away first.
    count = added_in_place ? 1 : std::min(end - plane, p.groups - group);
    t.from.x = src + plane * h.src * w.src;
    t.from.planes = count;
    t.w = filters + group * p.taps() + (forward ? 0 : p.taps() - 1);
    t.y = dst + plane * out;
    t.bias = bias ? bias + group : nullptr;
    t.add = residual ? residual + plane * out : nullptr;
    if (added_in_place) t.add = std::copy_n(t.add, out, s.add) - out;
    run(t);
    if (const CurveFunction<T> curve = curve_of<T>(plan)) curve({t.y, 0, 1, 1, count * out});
  }
}

}  // namespace

bool can_copy_planes(const ConvProblem& p, const std::vector<Gather>& gathers, const Machine& machine) {
  if (gathers.size() != 1) return false;
  const Walk &h = gathers[0].h(), &w = gathers[0].w();
  const bool square = h.taps == w.taps && (w.taps == 3 || w.taps == 5 || w.taps == 7);
  if (!square || h.src_step != 1 || distance(h) != 1 || w.src_step != 1 ||
      !kernels_for(machine.isa).depthwise.f32.planes[0])
    return false;
  return 4 * copy_of(p, gathers[0], machine).elements * static_cast<int64_t>(size_of(p.dtype)) <= machine.l1_bytes;
}

void prepare_depthwise_planes(ConvPlan& plan) {
  plan.blocking.items = plan.problem.batch == 0 ? 0 : items_of(plan).parts;
  plan.blocking.thread_bytes = visit_dtype(plan.problem.dtype, [&](auto zero) {
    Carver carver(nullptr);
    const Scratch<decltype(zero)> scratch(carver, plan);
    return carver.used();
  });
  plan.workspace_bytes = static_cast<size_t>(plan.threads) * plan.blocking.thread_bytes;
}

void run_depthwise_planes(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace,
                          Interrupt& interrupt) {
  visit_dtype(plan.problem.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Split items = items_of(plan);
    parallel_for(plan.blocking.items, plan.threads, interrupt, [&](int64_t item, int thread) {
      Carver carver(workspace + static_cast<size_t>(thread) * plan.blocking.thread_bytes);
      const Scratch<T> scratch(carver, plan);
      run_item(plan, operands, items, item, scratch);
    });
  });
}

}  // namespace fastconv
