#include "gather.h"

#include <numeric>

namespace fastconv {
namespace {

Walk forward_walk(const Axis& a) {
  return {a.in, a.out, a.stride, a.kernel, 0, 1, -a.pad_lo, a.dilation, 0, 1, a.out};
}

// One Walk per residue r of (i + pad_lo) mod stride. Tap t reaches residue r when t * dilation = r (mod stride):
// solutions, if any, are every (stride / gcd(stride, dilation))-th tap.
std::vector<Walk> input_gradient_walks(const Axis& a) {
  std::vector<Walk> walks;
  const int64_t period = a.stride / std::gcd(a.stride, a.dilation);
  // More residues than positions of x: only as many phases as there are positions.
  const int64_t phases = std::min(a.stride, a.in);
  for (int64_t first = 0; first < phases; ++first) {
    Walk walk{};
    walk.src = a.out;
    walk.src_step = 1;
    walk.dst_start = first;
    walk.dst_step = a.stride;
    walk.dst = (a.in - first + a.stride - 1) / a.stride;
    walk.dst_full = a.in;
    const int64_t residue = (first + a.pad_lo) % a.stride;
    const int64_t candidates = std::min(period, a.kernel);
    int64_t tap = 0;
    while (tap < candidates && (tap * a.dilation) % a.stride != residue) ++tap;
    if (tap == candidates) continue;  // nothing reaches these positions: covers_result() is false
    walk.tap_start = tap;
    walk.tap_step = period;
    walk.taps = (a.kernel - tap + period - 1) / period;
    walk.offset = (first + a.pad_lo - tap * a.dilation) / a.stride;
    walk.offset_step = walk.taps > 1 ? -(period * a.dilation / a.stride) : 0;
    walks.push_back(walk);
  }
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
