// depthwise: one input channel per group; each filter runs over one plane.
//
//   y[group, j][pixel] = sum over taps of w[group, j][tap] * x[group][pixel * stride + tap * dilation - pad]
//
// A matrix product would have one row here: nothing to share between pixels but the filter, so the tile shares the
// rows of the image between the rows of the filter instead. The input gradient is the same with the taps reversed.
// Which nest runs (depthwise_nests.h) depends on layout, stride and ISA; blocking.depthwise_nest holds the choice.
#include <algorithm>
#include <cmath>

#include "depthwise_nests.h"

namespace fastconv {
namespace {

double lanes_of(const ConvProblem& p, const Machine& machine) {
  return static_cast<double>(machine.lanes(static_cast<int64_t>(size_of(p.dtype))));
}

// Cycles of one group of one image, fitted to planes of 7 to 112 and filters of 3 to 7, float32; here AVX2, below
// AVX-512.
double image_cycles(const Gather& g, double lanes) {
  const double rows = static_cast<double>(g.d().dst * g.h().dst), channels = static_cast<double>(g.src_c * g.dst_c);
  const double vectors = std::ceil(static_cast<double>(g.w().dst) / lanes) * rows;
  const double columns = g.w().src_step == 1 ? 1 : 2.2;  // two loads and a shuffle
  // A call of the tile, its filter, its masks and its addresses cost about a hundred cycles.
  return channels *
         (vectors * columns * (0.7 * static_cast<double>(g.taps()) + 2.5) + 120 * static_cast<double>(g.d().dst));
}

double turned_cycles(const Gather& g, double lanes) {
  const double results = static_cast<double>(g.pixels()),
               elements = static_cast<double>(g.h().src * g.w().src) + results;
  // Longer rows begin and end less often: planes of 14 to 112, Zen 3.
  const double element = std::min(6.4, 4.4 + 50 / static_cast<double>(g.w().src));
  return (element * elements + 0.6 * results * static_cast<double>(g.taps())) / lanes;
}

// From copies between zeros: fitted to planes of 7 to 28 and filters of 3 to 7, AVX2.
double planes_cycles(const Gather& g, double lanes) {
  const double vectors = std::ceil(static_cast<double>(g.w().dst) / lanes) * static_cast<double>(g.h().dst);
  // 8 sums and 7 of the filter leave no register for what they are multiplied with.
  const double tap = g.taps() > 25 && static_cast<double>(g.w().dst) > lanes ? 0.8 : 0.6;
  return vectors * (tap * static_cast<double>(g.taps()) + 3.6) + 25;
}

// One plane in and one out per group, and every result in some phase.
bool plane_to_plane(const ConvProblem& p, const std::vector<Gather>& gathers) {
  return p.layout == Layout::nchw && p.out_c_group() == 1 && p.d().in == 1 && p.d().out == 1 && p.d().kernel == 1 &&
         covers_result(gathers);
}

// Rows and columns of results that are neighbours.
bool can_turn(const std::vector<Gather>& gathers) {
  return gathers.size() == 1 && gathers[0].h().dst_step == 1 && gathers[0].w().dst_step == 1;
}

// Depends on the problem of one image and on the ISA alone: an image's result is the same in every batch and for any
// number of threads.
DepthwiseNest nest_for(const ConvProblem& p, const Machine& machine) {
  if (p.direction == Direction::weight_gradient) return DepthwiseNest::sums;
  const bool multiplied = p.out_c_group() != 1;
  const int64_t packed = p.weight_elements() * static_cast<int64_t>(size_of(p.dtype));
  const bool packable = packed <= static_cast<int64_t>(kPackedScratchBytes) / 16;  // padded to a vector of channels
  if (p.layout == Layout::nhwc && !multiplied && packed <= static_cast<int64_t>(kPackedScratchBytes))
    return DepthwiseNest::channels;
  const std::vector<Gather> gathers = make_gathers(p);
  const double lanes = lanes_of(p, machine);
  const bool simple = plane_to_plane(p, gathers);
  const double image = gathers.empty() ? 0 : image_cycles(gathers[0], lanes);
  const double turned = simple && packable && can_turn(gathers) ? turned_cycles(gathers[0], lanes) : HUGE_VAL;
  if (simple && can_copy_planes(p, gathers, machine) &&
      (gathers.size() > 1 || planes_cycles(gathers[0], lanes) < std::min(turned, image)))
    return DepthwiseNest::planes;
  if (turned < image) return DepthwiseNest::turned;
  const int64_t step_w = p.direction == Direction::forward ? p.w().stride : 1;
  const bool in_place = p.layout == Layout::nchw && reads_in_place(machine) && step_w <= 2;
  return in_place ? DepthwiseNest::image : DepthwiseNest::staged;
}

}  // namespace

bool reads_in_place(const Machine& machine) { return kernels_for(machine.isa).depthwise.f32.reads_in_place; }

Support depthwise_supports(const ConvProblem& p, const Machine& machine) {
  if (p.in_c_group() != 1) return {cat("needs 1 input channel per group, here ", p.in_c_group())};
  if (p.direction == Direction::weight_gradient) return depthwise_sums_supports(p, machine);
  return {};
}

double depthwise_cost(const ConvProblem& p, const Machine& machine, int threads) {
  const double lanes = lanes_of(p, machine);
  const DepthwiseNest nest = nest_for(p, machine);
  double cycles = 0;
  for (const Gather& g : make_gathers(p)) {
    if (nest == DepthwiseNest::turned || nest == DepthwiseNest::channels) {
      // Channels last: loads and stores, and the filter, instead of the turn.
      const double turn = nest == DepthwiseNest::channels ? 4 * static_cast<double>(g.pixels()) / lanes : 0;
      cycles += turn ? turn + 0.6 * static_cast<double>(g.pixels() * g.taps()) / lanes : turned_cycles(g, lanes);
      continue;
    }
    cycles += nest == DepthwiseNest::planes ? planes_cycles(g, lanes) : image_cycles(g, lanes);
    if (nest == DepthwiseNest::staged)
      cycles += static_cast<double>(g.src_c * g.d().dst * g.h().dst) *
                std::ceil(static_cast<double>(g.w().dst) / lanes) *
                static_cast<double>(g.w().src_step * g.h().src_step) * 4;
  }
  return cycles * static_cast<double>(p.batch) * static_cast<double>(p.groups) / threads;
}

void depthwise_prepare(ConvPlan& plan) {
  plan.blocking.depthwise_nest = nest_for(plan.problem, plan.machine);
  switch (plan.blocking.depthwise_nest) {
    case DepthwiseNest::image:
      return prepare_depthwise_image(plan);
    case DepthwiseNest::planes:
      return prepare_depthwise_planes(plan);
    case DepthwiseNest::turned:
      return prepare_depthwise_turned(plan);
    case DepthwiseNest::staged:
      return prepare_depthwise_staged(plan);
    case DepthwiseNest::channels:
      return prepare_depthwise_channels(plan);
    case DepthwiseNest::sums:
      return prepare_depthwise_sums(plan);
  }
}

void depthwise_pack(const ConvPlan& plan, const void* w, void* packed, Interrupt&) {
  const ConvProblem& p = plan.problem;
  if (plan.blocking.depthwise_nest == DepthwiseNest::channels) pack_depthwise_channels(plan, p.groups, w, packed);
  if (plan.blocking.depthwise_nest == DepthwiseNest::turned)
    pack_depthwise_channels(plan, plan.machine.lanes(static_cast<int64_t>(size_of(p.dtype))), w, packed);
}

void depthwise_run(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace, Interrupt& interrupt) {
  switch (plan.blocking.depthwise_nest) {
    case DepthwiseNest::image:
      return run_depthwise_image(plan, operands, workspace, interrupt);
    case DepthwiseNest::planes:
      return run_depthwise_planes(plan, operands, workspace, interrupt);
    case DepthwiseNest::turned:
      return run_depthwise_turned(plan, operands, workspace, interrupt);
    case DepthwiseNest::staged:
      return run_depthwise_staged(plan, operands, workspace, interrupt);
    case DepthwiseNest::channels:
      return run_depthwise_channels(plan, operands, workspace, interrupt);
    case DepthwiseNest::sums:
      return run_depthwise_sums(plan, operands, workspace, interrupt);
  }
}

}  // namespace fastconv
