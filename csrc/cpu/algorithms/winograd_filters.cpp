// The weights of the row `winograd`: u = G g G^T, computed in double, once where a plan is prepared.
//
//   per group, per panel of result channels:  u[position][term][lane]
#include <algorithm>
#include <cstring>

#include "../buffer.h"
#include "weight_panels.h"
#include "winograd.h"

namespace fastconv {
namespace {

// Weights of the channels transformed at a time, on the stack: at least one channel of the largest kernel.
constexpr int64_t kStackWeights = kWinogradTaps * 32;

// The taps of one phase of the stride, zeros where it has fewer than the first: [channel][tap][width].
void take_phase(const Walk& h, const Walk& w, int64_t phase_h, int64_t phase_w, const float* taps, int64_t channel,
                int64_t channels, int64_t width, float* to) {
  for (int64_t c = 0; c < channels; ++c, taps += channel)
    for (int64_t i = phase_h; i < winograd_taps(h) * h.src_step; i += h.src_step)
      for (int64_t j = phase_w; j < winograd_taps(w) * w.src_step; j += w.src_step, to += width) {
        if (i < h.taps && j < w.taps)
          std::memcpy(to, taps + (i * w.taps + j) * width, static_cast<size_t>(width) * sizeof(float));
        else
          std::memset(to, 0, static_cast<size_t>(width) * sizeof(float));
      }
}

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
  const auto transform = kernels_for(plan.machine.isa).winograd.filter;
  const bool flip = g.h().offset_step < 0 || g.w().offset_step < 0;
  const int64_t slice = g.h().taps * g.w().taps * panel.width;
  alignas(kAlignment) float taps[kStackWeights], phase_taps[kStackWeights];
  const int64_t at_once = kStackWeights / (panel.width * g.taps());
  const int64_t phases = b.phases_h * b.phases_w,
                phase_slice = winograd_taps(g.h()) * winograd_taps(g.w()) * panel.width;
  // The channels of the range: all of them where it has terms of more than one slice.
  const int64_t slice0 = range.begin / g.src_c, slice1 = (range.end - 1) / g.src_c;
  const int64_t first = slice0 == slice1 ? range.begin - slice0 * g.src_c : 0;
  const int64_t last = slice0 == slice1 ? range.end - slice0 * g.src_c : g.src_c;
  for (int64_t c = first; c < last; c += at_once) {
    const int64_t channels = std::min(at_once, last - c);
    pack_weight_tile(plan, 0, {panel.first, panel.count, panel.width, group, c, channels, 0}, w, taps);
    for (int64_t i = slice0; i <= slice1; ++i) {
      const int64_t term = i * g.src_c + c, tap = i / phases, phase = i % phases;
      const int64_t begin = std::max(range.begin, term), end = std::min(range.end, term + channels);
      if (begin >= end) continue;
      const float* from = taps + ((begin - term) * g.d().taps + tap) * slice;
      int64_t channel = g.d().taps * slice;
      if (b.stride_h * b.stride_w > 1) {
        take_phase(g.h(), g.w(), phase / b.phases_w, phase % b.phases_w, from, channel, end - begin, panel.width,
                   phase_taps);
        from = phase_taps, channel = phase_slice;
      }
      transform({b.form_h, b.form_w, from, channel, end - begin, panel.width, flip,
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
