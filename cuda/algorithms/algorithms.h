// The functions behind the rows of the table.
#pragma once

#include "../plan.h"

namespace fastconv::cuda {

#define FASTCONV_DECLARE_ALGORITHM(name)                                   \
  Support name##_supports(const ConvProblem&, const Target&);              \
  double name##_cost(const ConvProblem&, const Target&, int threads);      \
  void name##_prepare(ConvPlan&);                                          \
  void name##_pack(const ConvPlan&, const void* w, void* packed, Stream&); \
  void name##_run(const ConvPlan&, const ConvOperands&, std::byte* workspace, Stream&);

FASTCONV_DECLARE_ALGORITHM(depthwise)
FASTCONV_DECLARE_ALGORITHM(direct)
FASTCONV_DECLARE_ALGORITHM(im2col)
FASTCONV_DECLARE_ALGORITHM(im2col_wgmma)
FASTCONV_DECLARE_ALGORITHM(pointwise)
FASTCONV_DECLARE_ALGORITHM(reference)
// im2col on tensor cores, of every element but float64; pointwise runs on it.
size_t im2col_mma_packed_bytes(const ConvPlan&);
void im2col_mma_pack(const ConvPlan&, const void* w, void* packed, Stream&);
void im2col_mma_run(const ConvPlan&, const ConvOperands&, std::byte* workspace, Stream&);
#undef FASTCONV_DECLARE_ALGORITHM

// The weight gradient of im2col, in files of its own.
constexpr int kGradientTile = 64;
Support weight_gradient_supports(const ConvProblem& problem);
double weight_gradient_cost(const ConvProblem& problem, const Target& target);
void weight_gradient_prepare(ConvPlan& plan);
void weight_gradient_mma_run(const ConvPlan& plan, const ConvOperands& operands, float* partials, Stream& stream);
void weight_gradient_run(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace, Stream& stream);

// Positions of x that no window reads (core/gather.h, covers_result) hold bias and activation of an empty sum.
void fill_uncovered(const ConvPlan& plan, const ConvOperands& operands, Stream& stream);

// Empty where every number a kernel keeps in 32 bits fits; array sizes are not among them.
Support fits_32_bits(const ConvProblem& problem);

}  // namespace fastconv::cuda
