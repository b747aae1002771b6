// The weights of the row `winograd`: u = G g G^T, computed in double, once where a plan is prepared.
//
//   per group, per panel of result channels:  u[position][source channel][lane]
#include <algorithm>

#include "../buffer.h"
#include "weight_panels.h"
#include "winograd.h"

namespace fastconv {
namespace {

// G of an axis, [alpha][taps].
struct FilterMatrix {
  double at[kMaxAlpha * kMaxWinogradTaps] = {};

  FilterMatrix(int alpha, int taps) {
    if (alpha == 1) {
      at[0] = 1;
      return;
    }
    double points[kMaxAlpha] = {0};
    for (int i = 0; i < alpha / 2 - 1; ++i) {
      points[1 + 2 * i] = kWinogradPoints[alpha / 2 - 2][i];
      points[2 + 2 * i] = -points[1 + 2 * i];
    }
    for (int j = 0; j + 1 < alpha; ++j) {
      double value = 1;
      for (int l = 0; l + 1 < alpha; ++l)
        if (l != j) value /= points[j] - points[l];
      for (int k = 0; k < taps; ++k, value *= points[j]) at[j * taps + k] = value;
    }
    at[alpha * taps - 1] = 1;
  }
};

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

void transform_panel(const ConvPlan& plan, int64_t group, const WinogradPanel& panel, int64_t begin, int64_t end,
                     const float* w, float* u) {
  const WinogradBlocking& b = plan.blocking.winograd;
  const Gather& g = plan.gathers[0];
  const int alpha_h = kWinogradForms[b.form_h].alpha, alpha_w = kWinogradForms[b.form_w].alpha;
  const int ker_h = static_cast<int>(g.h().taps), ker_w = static_cast<int>(g.w().taps);
  const FilterMatrix g_h(alpha_h, ker_h), g_w(alpha_w, ker_w);
  const WinogradKernels& kernels = kernels_for(plan.machine.isa).winograd;
  alignas(kAlignment) float taps[kStackWeights];
  const int64_t at_once = kStackWeights / (panel.width * g.taps());
  for (int64_t c = begin; c < end; c += at_once) {
    const int64_t channels = std::min(at_once, end - c);
    pack_weight_tile(plan, 0, {panel.first, panel.count, panel.width, group, c, channels, 0}, w, taps);
    kernels.filter({taps, channels, panel.width, g_h.at, g_w.at, alpha_h, ker_h, alpha_w, ker_w,
                    g.h().offset_step < 0 || g.w().offset_step < 0, u + c * panel.width, panel.position});
  }
}

void winograd_pack(const ConvPlan& plan, const void* w, void* packed, Interrupt& interrupt) {
  const int64_t panels = plan.blocking.winograd.panels, src_c = plan.gathers[0].src_c;
  // Parts of the source channels: a layer with few panels is packed by all threads too.
  const Split parts{src_c, std::min<int64_t>(src_c, 8)};
  parallel_for(plan.problem.groups * panels * parts.parts, plan.threads, interrupt, [&](int64_t item, int) {
    const int64_t group = item / parts.parts / panels, part = item % parts.parts;
    const WinogradPanel panel = winograd_panel(plan, group, item / parts.parts % panels);
    transform_panel(plan, group, panel, parts.begin(part), parts.begin(part + 1), static_cast<const float*>(w),
                    static_cast<float*>(packed) + panel.packed_offset);
  });
}

}  // namespace fastconv
