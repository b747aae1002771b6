// The functions behind the rows of the table.
#pragma once

#include "../plan.h"

namespace fastconv::cuda {

#define FASTCONV_DECLARE_ALGORITHM(name)                                   \
  Support name##_supports(const ConvProblem&, const Device&);              \
  double name##_cost(const ConvProblem&, const Device&, int threads);      \
  void name##_prepare(ConvPlan&);                                          \
  void name##_pack(const ConvPlan&, const void* w, void* packed, Stream&); \
  void name##_run(const ConvPlan&, const ConvOperands&, std::byte* workspace, Stream&);

FASTCONV_DECLARE_ALGORITHM(depthwise)
FASTCONV_DECLARE_ALGORITHM(direct)
FASTCONV_DECLARE_ALGORITHM(im2col)
FASTCONV_DECLARE_ALGORITHM(reference)
// im2col on tensor cores, of every element but float64; its cost is im2col's.
Support im2col_half_supports(const ConvProblem&, const Device&);
void im2col_mma_prepare(ConvPlan&);
void im2col_mma_pack(const ConvPlan&, const void* w, void* packed, Stream&);
void im2col_mma_run(const ConvPlan&, const ConvOperands&, std::byte* workspace, Stream&);
#undef FASTCONV_DECLARE_ALGORITHM

// The weight gradient of im2col, in a file of its own.
Support weight_gradient_supports(const ConvProblem& problem);
void weight_gradient_prepare(ConvPlan& plan);
void weight_gradient_run(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace, Stream& stream);

// Positions of x that no window reads (core/gather.h, covers_result) hold bias and activation of an empty sum.
void fill_uncovered(const ConvPlan& plan, const ConvOperands& operands, Stream& stream);

// Empty where every number a kernel keeps in 32 bits fits; array sizes are not among them.
Support fits_32_bits(const ConvProblem& problem);

}  // namespace fastconv::cuda
