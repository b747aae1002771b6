// The loop nests behind the depthwise row (depthwise.cpp), by what lies along the vector and what is computed:
//
//   image     NCHW, read in place under masks: stride 1 or 2 along the width, ISAs with masked loads
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
FASTCONV_DECLARE_NEST(staged)
FASTCONV_DECLARE_NEST(channels)
FASTCONV_DECLARE_NEST(sums)
#undef FASTCONV_DECLARE_NEST

// Filters as the channels nest reads them: [gather][tap][channel].
void pack_depthwise_channels(const ConvPlan& plan, const void* w, void* packed);

// Empty, or why there is no nest for the weight gradient.
Support depthwise_sums_supports(const ConvProblem& problem, const Machine& machine);

// Whether the kernels of this machine read images under masks.
bool reads_in_place(const Machine& machine);

}  // namespace fastconv
