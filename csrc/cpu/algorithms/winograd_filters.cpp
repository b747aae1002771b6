// The weights of the row `winograd`: u = G g G^T, computed in double, once where a plan is prepared.
//
//   per group, per panel of result channels:  u[position][term][lane]
#include <algorithm>

#include "../buffer.h"
#include "weight_panels.h"
#include "winograd.h"

namespace fastconv {
namespace {

// Weights of the channels transformed at a time, on the stack: at least one channel of the largest kernel.
constexpr int64_t kStackWeights = kWinogradDepthTaps * 7 * 7 * 32;

}  // namespace

WinogradPanel winograd_panel(const ConvPlan& plan, int64_t group, int64_t panel) {
  const WinogradBlocking& b = plan.blocking.winograd;
  const Gather& g = plan.gathers[0];
  const int64_t lanes = plan.machine.lanes(sizeof(float));
  WinogradPanel result;
  result.first = panel * 2 * lanes;
  result.count = std::min(g.dst_c - result.first, 2 * lanes);
  result.width = result.count <= lanes ? lanes : 2 * lanes;
  result.packed_offset = group * b.packed_group + panel * b.positions * winograd_pitch(b.depths.count * 2 * lanes);
  result.position = winograd_pitch(b.depths.count * result.width);
  return result;
}

void transform_panel(const ConvPlan& plan, int64_t group, const WinogradPanel& panel, const TermRange& range,
                     const float* w, float* u, int64_t position_step) {
  const WinogradBlocking& b = plan.blocking.winograd;
  const Gather& g = plan.gathers[0];
  const auto transform = kernels_for(plan.machine.isa).winograd.filter[b.form_h][b.form_w];
  const bool flip = g.h().offset_step < 0 || g.w().offset_step < 0;
  const int64_t slice = g.h().taps * g.w().taps * panel.width;
  alignas(kAlignment) float taps[kStackWeights];
  const int64_t at_once = kStackWeights / (panel.width * g.taps());
  // The channels of the range: all of them where it has terms of more than one tap.
  const int64_t tap0 = range.begin / g.src_c, tap1 = (range.end - 1) / g.src_c;
  const int64_t first = tap0 == tap1 ? range.begin - tap0 * g.src_c : 0;
  const int64_t last = tap0 == tap1 ? range.end - tap0 * g.src_c : g.src_c;
  for (int64_t c = first; c < last; c += at_once) {
    const int64_t channels = std::min(at_once, last - c);
    pack_weight_tile(plan, 0, {panel.first, panel.count, panel.width, group, c, channels, 0}, w, taps);
    for (int64_t tap = tap0; tap <= tap1; ++tap) {
      const int64_t term = tap * g.src_c + c;
      const int64_t begin = std::max(range.begin, term), end = std::min(range.end, term + channels);
      if (begin >= end) continue;
      transform({taps + ((begin - term) * g.d().taps + tap) * slice, g.d().taps * slice, end - begin, panel.width, flip,
                 u + (begin - range.begin) * panel.width, position_step});
    }
  }
}

void winograd_pack(const ConvPlan& plan, const void* w, void* packed, Interrupt& interrupt) {
  const int64_t panels = plan.blocking.winograd.panels, terms = plan.blocking.winograd.depths.count;
  // Parts of the terms: a layer with few panels is packed by all threads too.
  const Split parts{terms, std::min<int64_t>(terms, 8)};
  parallel_for(plan.problem.groups * panels * parts.parts, plan.threads, interrupt, [&](int64_t item, int) {
    const int64_t group = item / parts.parts / panels, part = item % parts.parts;
    const WinogradPanel panel = winograd_panel(plan, group, item / parts.parts % panels);
    const TermRange range{parts.begin(part), parts.begin(part + 1)};
    transform_panel(plan, group, panel, range, static_cast<const float*>(w),
                    static_cast<float*>(packed) + panel.packed_offset + range.begin * panel.width, panel.position);
  });
}

}  // namespace fastconv
