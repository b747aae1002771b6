#include "gather.h"

#include <algorithm>
#include <numeric>

namespace fastconv {
namespace {

Walk forward_walk(const Axis& a) { return {a.in, a.out, a.stride, a.kernel, 0, 1, -a.pad_lo, a.dilation, 0, 1, a.out}; }

// One Walk per residue r of (i + pad_lo) mod stride that a tap reaches: tap t reaches t * dilation mod stride, and
// every (stride / gcd(stride, dilation))-th tap the same one. Counts taps and not residues or positions, of which a
// large stride has billions.
std::vector<Walk> input_gradient_walks(const Axis& a) {
  std::vector<Walk> walks;
  const int64_t period = a.stride / std::gcd(a.stride, a.dilation);
  for (int64_t tap = 0; tap < std::min(period, a.kernel); ++tap) {
    const int64_t residue = tap * a.dilation % a.stride - a.pad_lo % a.stride;
    const int64_t first = residue < 0 ? residue + a.stride : residue;
    if (first >= a.in) continue;
    Walk walk{};
    walk.src = a.out;
    walk.src_step = 1;
    walk.dst_start = first;
    walk.dst_step = a.stride;
    walk.dst = (a.in - first - 1) / a.stride + 1;
    walk.dst_full = a.in;
    walk.tap_start = tap;
    walk.tap_step = period;
    walk.taps = (a.kernel - tap - 1) / period + 1;
    walk.offset = (first + a.pad_lo - tap * a.dilation) / a.stride;
    walk.offset_step = walk.taps > 1 ? -(period * a.dilation / a.stride) : 0;
    walks.push_back(walk);
  }
  // In the order of the results, so that neighbouring ones are written one after the other.
  std::sort(walks.begin(), walks.end(), [](const Walk& l, const Walk& r) { return l.dst_start < r.dst_start; });
  return walks;
}

}  // namespace

std::vector<Gather> make_gathers(const ConvProblem& p) {
  if (p.direction != Direction::input_gradient)
    return {Gather{{forward_walk(p.d()), forward_walk(p.h()), forward_walk(p.w())}, p.in_c_group(), p.out_c_group()}};
  std::vector<Gather> gathers;
  for (const Walk& d : input_gradient_walks(p.d()))
    for (const Walk& h : input_gradient_walks(p.h()))
      for (const Walk& w : input_gradient_walks(p.w()))
        gathers.push_back(Gather{{d, h, w}, p.out_c_group(), p.in_c_group()});
  return gathers;
}

bool covers_result(const std::vector<Gather>& gathers) {
  if (gathers.empty()) return false;
  int64_t pixels = 0;
  for (const Gather& g : gathers) pixels += g.pixels();
  const auto& w = gathers[0].walks;
  return pixels == w[0].dst_full * w[1].dst_full * w[2].dst_full;
}

}  // namespace fastconv
