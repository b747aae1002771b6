// The weights of the row `winograd`: u = G g G^T, computed in double, once where a plan is prepared.
//
//   per group, per panel of result channels:  u[position][source channel][lane]
#include <algorithm>

#include "../buffer.h"
#include "weight_panels.h"
#include "winograd.h"

namespace fastconv {
namespace {

// Weights of the channels transformed at a time, on the stack.
constexpr int64_t kStackWeights = 4096;

}  // namespace

WinogradPanel winograd_panel(const ConvPlan& plan, int64_t group, int64_t panel) {
  const WinogradBlocking& b = plan.blocking.winograd;
  const Gather& g = plan.gathers[0];
  const int64_t lanes = plan.machine.lanes(sizeof(float));
  WinogradPanel result;
  result.first = panel * 2 * lanes;
  result.count = std::min(g.dst_c - result.first, 2 * lanes);
  result.width = result.count <= lanes ? lanes : 2 * lanes;
  result.packed_offset = group * b.packed_group + panel * b.positions * winograd_pitch(g.src_c * 2 * lanes);
  result.position = winograd_pitch(g.src_c * result.width);
  return result;
}

void transform_panel(const ConvPlan& plan, int64_t group, const WinogradPanel& panel, const ChannelRange& range,
                     const float* w, float* u, int64_t position_step) {
  const WinogradBlocking& b = plan.blocking.winograd;
  const Gather& g = plan.gathers[0];
  const auto transform = kernels_for(plan.machine.isa).winograd.filter[b.form_h][b.form_w];
  const bool flip = g.h().offset_step < 0 || g.w().offset_step < 0;
  alignas(kAlignment) float taps[kStackWeights];
  const int64_t at_once = kStackWeights / (panel.width * g.taps());
  for (int64_t c = range.begin; c < range.end; c += at_once) {
    const int64_t channels = std::min(at_once, range.end - c);
    pack_weight_tile(plan, 0, {panel.first, panel.count, panel.width, group, c, channels, 0}, w, taps);
    transform({taps, channels, panel.width, flip, u + (c - range.begin) * panel.width, position_step});
  }
}

void winograd_pack(const ConvPlan& plan, const void* w, void* packed, Interrupt& interrupt) {
  const int64_t panels = plan.blocking.winograd.panels, src_c = plan.gathers[0].src_c;
  // Parts of the source channels: a layer with few panels is packed by all threads too.
  const Split parts{src_c, std::min<int64_t>(src_c, 8)};
  parallel_for(plan.problem.groups * panels * parts.parts, plan.threads, interrupt, [&](int64_t item, int) {
    const int64_t group = item / parts.parts / panels, part = item % parts.parts;
    const WinogradPanel panel = winograd_panel(plan, group, item / parts.parts % panels);
    const ChannelRange range{parts.begin(part), parts.begin(part + 1)};
    transform_panel(plan, group, panel, range, static_cast<const float*>(w),
                    static_cast<float*>(packed) + panel.packed_offset + range.begin * panel.width, panel.position);
  });
}

}  // namespace fastconv
