// Depthwise of planes that fit in L1: each is copied between zeros first, so that no tile needs a mask.
//
//   for item = some planes, one after the other in memory:                     one thread each
//     planes tile (kernels/depthwise/padded.h) over those of one image;
//     for the gradient of a stride of 2 by 2, all four phases of a plane: pairs of rows and columns (padded_pairs.h)
//
// Rows without dilation, one plane in and one out per group. A plane of 14 x 14 is so little work that finding its
// addresses, masks and filter one by one took longer: the tile goes from plane to plane itself.
#include <algorithm>

#include "../buffer.h"
#include "depthwise_pixels.h"

namespace fastconv {
namespace {

// Products of an item: some 10 us, long beside a look at the clock.
constexpr double kItemProducts = 512 * 1024;

// Along one axis: the first position that a result reads, and the zeros before and behind the source.
struct Zeros {
  int64_t first, before, behind;
  Zeros(const std::vector<Gather>& gathers, size_t axis) : first(INT64_MAX), behind(0) {
    int64_t most = INT64_MIN, dst = 0;
    for (const Gather& g : gathers) {
      first = std::min(first, g.walks[axis].least_offset());
      most = std::max(most, g.walks[axis].most_offset());
      dst = std::max(dst, g.walks[axis].dst);
    }
    before = std::max<int64_t>(0, -first);
    behind = std::max<int64_t>(0, most + dst - gathers[0].walks[axis].src);
  }
};

// A copy with the zeros that the results of all phases read around it, in rows of whole cache lines.
struct Copy {
  Zeros h, w;
  int64_t row, elements;
  Copy(const ConvProblem& p, const std::vector<Gather>& gathers, const Machine& machine)
      : h(gathers, 1), w(gathers, 2) {
    const int64_t bytes = static_cast<int64_t>(size_of(p.dtype)), lanes = machine.lanes(bytes), line = 64 / bytes;
    const Gather& g = gathers[0];
    row = ceil_div(w.before + std::max(g.w().src + w.behind, lanes), line) * line;
    elements = (h.before + g.h().src + h.behind) * row + lanes;  // a vector may begin with the last result
  }
};

Split items_of(const ConvPlan& plan) {
  const ConvProblem& p = plan.problem;
  const int64_t planes = p.batch * p.groups;
  const double products = p.flops() / 2 / static_cast<double>(std::max<int64_t>(1, planes));
  const int64_t together = std::max<int64_t>(1, static_cast<int64_t>(kItemProducts / std::max(1.0, products)));
  // Several items for every thread.
  const int64_t items = std::max(ceil_div(planes, together), std::min<int64_t>(planes, 4 * (plan.threads - 1)));
  return {planes, std::max<int64_t>(1, items)};
}

template <class T>
struct Scratch {
  T *copy[2], *add;
  Scratch(Carver& carver, const ConvPlan& plan) {
    for (T*& to : copy) to = carver.take<T>(Copy(plan.problem, plan.gathers, plan.machine).elements);
    add = carver.take<T>(plan.problem.direction == Direction::forward ? plan.gathers[0].pixels() : 0);
  }
};

template <class T>
class PlanesRun {
 public:
  PlanesRun(const ConvPlan& plan, const ConvOperands& operands)
      : plan_(plan),
        p_(plan.problem),
        items_(items_of(plan)),
        copy_(p_, plan.gathers, plan.machine),
        forward_(p_.direction == Direction::forward),
        src_(static_cast<const T*>(forward_ ? operands.x : operands.y)),
        w_(static_cast<const T*>(operands.w)),
        bias_(static_cast<const T*>(operands.bias)),
        residual_(static_cast<const T*>(operands.residual)),
        curve_(curve_of<T>(plan)),
        dst_(static_cast<T*>(forward_ ? operands.y : operands.x)) {}

  void item(int64_t item, const Scratch<T>& s) const {
    const DepthwiseKernel<T>& kernel = typed<T>(kernels_for(plan_.machine.isa).depthwise);
    const int64_t size = (p_.w().kernel - 3) / 2;
    if (plan_.gathers.size() == 1) {
      DepthwisePlanes<T> t{};
      t.tap_w = distance(plan_.gathers[0].w());
      t.w_step = forward_ ? 1 : -1;
      planes(item, s, t, kernel.planes[size], forward_ ? 0 : p_.taps() - 1);
    } else {
      planes(item, s, DepthwisePlanePairs<T>{}, kernel.plane_pairs[size][p_.w().pad_lo % 2 == 0], 0);
    }
  }

 private:
  template <class Tile>
  void planes(int64_t item, const Scratch<T>& s, Tile t, void (*run)(const Tile&), int64_t first_tap) const {
    const Walk &h = plan_.gathers[0].h(), &w = plan_.gathers[0].w();
    for (T* const to : s.copy) std::fill_n(to, copy_.elements, T{0});
    t.from.in_h = h.src;
    t.from.in_w = w.src;
    std::copy_n(s.copy, 2, t.from.copy);
    t.from.first = copy_.h.before * copy_.row + copy_.w.before;
    t.from.row = copy_.row;
    t.read = (copy_.h.first + copy_.h.before) * copy_.row + copy_.w.first + copy_.w.before;
    t.rows = h.dst_full;
    t.cols = w.dst_full;
    set_clamp(t, p_.activation, true);
    const bool added_in_place = residual_ && residual_ == dst_;
    const int64_t end = items_.begin(item + 1), out = t.rows * t.cols;
    for (int64_t plane = items_.begin(item), count; plane < end; plane += count) {
      const int64_t group = plane % p_.groups;
      // Results of a tile lie over each other: where they are added to those in y, these are taken away first.
      count = added_in_place ? 1 : std::min(end - plane, p_.groups - group);
      t.from.x = src_ + plane * h.src * w.src;
      t.from.planes = count;
      t.w = w_ + group * p_.taps() + first_tap;
      t.y = dst_ + plane * out;
      t.bias = bias_ ? bias_ + group : nullptr;
      if constexpr (requires { t.add; }) {
        t.add = residual_ ? residual_ + plane * out : nullptr;
        if (added_in_place) t.add = std::copy_n(t.add, out, s.add) - out;
      }
      run(t);
      if (curve_) curve_({t.y, 0, 1, 1, count * out});
    }
  }

  const ConvPlan& plan_;
  const ConvProblem& p_;
  const Split items_;
  const Copy copy_;
  const bool forward_;
  const T *src_, *w_, *bias_, *residual_;
  const CurveFunction<T> curve_;
  T* dst_;
};

// Whether the gathers are the four phases of a stride of 2 by 2 that a tile takes together.
bool phases_of_pairs(const ConvProblem& p, const std::vector<Gather>& gathers) {
  const Axis &h = p.h(), &w = p.w();
  return gathers.size() == 4 && h.stride == 2 && w.stride == 2 && h.dilation == 1 && w.dilation == 1 &&
         h.kernel == w.kernel && w.kernel <= 5 && h.pad_lo % 2 == w.pad_lo % 2;
}

}  // namespace

bool can_copy_planes(const ConvProblem& p, const std::vector<Gather>& gathers, const Machine& machine) {
  const bool pairs = phases_of_pairs(p, gathers);
  if (gathers.empty() || !(pairs || gathers.size() == 1)) return false;
  const Walk &h = gathers[0].h(), &w = gathers[0].w();
  const int64_t ker = p.w().kernel;
  const bool square = p.h().kernel == ker && (ker == 3 || ker == 5 || ker == 7);
  if (!square || h.src_step != 1 || w.src_step != 1 || !kernels_for(machine.isa).depthwise.f32.planes[0]) return false;
  if (!pairs && (distance(h) != 1 || h.dst_step != 1 || w.dst_step != 1)) return false;
  // Both copies and the results in half of L1; four results leave for one that is read, and only a copy has to stay.
  const int64_t bytes = Copy(p, gathers, machine).elements * static_cast<int64_t>(size_of(p.dtype));
  return (pairs ? 2 : 4) * bytes <= machine.l1_bytes;
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
    const PlanesRun<T> run(plan, operands);
    parallel_for(plan.blocking.items, plan.threads, interrupt, [&](int64_t item, int thread) {
      Carver carver(workspace + static_cast<size_t>(thread) * plan.blocking.thread_bytes);
      const Scratch<T> scratch(carver, plan);
      run.item(item, scratch);
    });
  });
}

}  // namespace fastconv
