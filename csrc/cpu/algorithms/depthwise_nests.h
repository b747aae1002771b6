// The loop nests behind the depthwise row (depthwise.cpp), by what lies along the vector and what is computed:
//
//   image     NCHW, read in place under masks: stride 1 or 2 along the width, ISAs with masked loads
//   planes    NCHW, small planes and common filters: stride 1, from copies between zeros
//   turned    NCHW, other small planes: a vector of channels at a time, as channels last
//   staged    anything, from padded copies of the planes (cpu/stage.h)
//   channels  NHWC, one result channel per group: channels along the vector, nothing is copied
//   sums      weight gradients, in both layouts
#pragma once

#include "algorithms.h"

namespace fastconv {

#define FASTCONV_DECLARE_NEST(name)                                                                   \
  void prepare_depthwise_##name(ConvPlan& plan);                                                      \
  void run_depthwise_##name(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace, \
                            Interrupt& interrupt);
FASTCONV_DECLARE_NEST(image)
FASTCONV_DECLARE_NEST(planes)
FASTCONV_DECLARE_NEST(turned)
FASTCONV_DECLARE_NEST(staged)
FASTCONV_DECLARE_NEST(channels)
FASTCONV_DECLARE_NEST(sums)
#undef FASTCONV_DECLARE_NEST

// Filters as the nests with channels along the vector read them: [width channels][gather][tap][channel], and 0 for
// channels behind the last. All channels together, or those of a vector.
void pack_depthwise_channels(const ConvPlan& plan, int64_t width, const void* w, void* packed);

// Whether the `planes` nest takes a problem that has one plane in and one out per group.
bool can_copy_planes(const ConvProblem& problem, const std::vector<Gather>& gathers, const Machine& machine);

// Empty, or why there is no nest for the weight gradient.
Support depthwise_sums_supports(const ConvProblem& problem, const Machine& machine);

// Whether the kernels of this machine read images under masks.
bool reads_in_place(const Machine& machine);

}  // namespace fastconv
