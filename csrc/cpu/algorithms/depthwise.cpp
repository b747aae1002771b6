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

DepthwiseNest nest_for(const ConvProblem& p, const Machine& machine) {
  if (p.direction == Direction::weight_gradient) return DepthwiseNest::sums;
  const bool multiplied = p.out_c_group() != 1;
  const int64_t packed = p.weight_elements() * static_cast<int64_t>(size_of(p.dtype));
  if (p.layout == Layout::nhwc && !multiplied && packed <= static_cast<int64_t>(kPackedScratchBytes))
    return DepthwiseNest::channels;
  const int64_t step_w = p.direction == Direction::forward ? p.w().stride : 1;
  return p.layout == Layout::nchw && reads_in_place(machine) && step_w <= 2 ? DepthwiseNest::image
                                                                            : DepthwiseNest::staged;
}

}  // namespace

bool reads_in_place(const Machine& machine) { return kernels_for(machine.isa).depthwise.f32.reads_in_place; }

Support depthwise_supports(const ConvProblem& p, const Machine& machine) {
  if (p.in_c_group() != 1) return {cat("needs 1 input channel per group, here ", p.in_c_group())};
  if (p.direction == Direction::weight_gradient) return depthwise_sums_supports(p, machine);
  return {};
}

double depthwise_cost(const ConvProblem& p, const Machine& machine, int threads) {
  const double lanes = static_cast<double>(machine.lanes(static_cast<int64_t>(size_of(p.dtype))));
  const DepthwiseNest nest = nest_for(p, machine);
  double cycles = 0;
  for (const Gather& g : make_gathers(p)) {
    const double rows = static_cast<double>(g.d().dst * g.h().dst), channels = static_cast<double>(g.src_c * g.dst_c);
    const double vectors = std::ceil(static_cast<double>(g.w().dst) / lanes) * rows;
    cycles += channels * vectors * (static_cast<double>(g.taps()) * 0.7 + 2);
    if (nest == DepthwiseNest::staged)
      cycles += static_cast<double>(g.src_c) * vectors * static_cast<double>(g.w().src_step * g.h().src_step) * 4;
    // A call of the tile, its filter and its addresses cost about a hundred cycles.
    cycles += 100 * channels * static_cast<double>(g.d().dst);
  }
  return cycles * static_cast<double>(p.batch) * static_cast<double>(p.groups) / threads;
}

void depthwise_prepare(ConvPlan& plan) {
  plan.blocking.depthwise_nest = nest_for(plan.problem, plan.machine);
  switch (plan.blocking.depthwise_nest) {
    case DepthwiseNest::image:
      return prepare_depthwise_image(plan);
    case DepthwiseNest::staged:
      return prepare_depthwise_staged(plan);
    case DepthwiseNest::channels:
      return prepare_depthwise_channels(plan);
    case DepthwiseNest::sums:
      return prepare_depthwise_sums(plan);
  }
}

void depthwise_pack(const ConvPlan& plan, const void* w, void* packed, Interrupt&) {
  if (plan.blocking.depthwise_nest == DepthwiseNest::channels) pack_depthwise_channels(plan, w, packed);
}

void depthwise_run(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace, Interrupt& interrupt) {
  switch (plan.blocking.depthwise_nest) {
    case DepthwiseNest::image:
      return run_depthwise_image(plan, operands, workspace, interrupt);
    case DepthwiseNest::staged:
      return run_depthwise_staged(plan, operands, workspace, interrupt);
    case DepthwiseNest::channels:
      return run_depthwise_channels(plan, operands, workspace, interrupt);
    case DepthwiseNest::sums:
      return run_depthwise_sums(plan, operands, workspace, interrupt);
  }
}

}  // namespace fastconv
