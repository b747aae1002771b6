// im2col: convolution as a matrix product, lowered tile by tile while the pixels are packed.
//
//   y[out_c][pixel] = sum over (in_c, tap) of  w[out_c][(in_c, tap)] * column[(in_c, tap)][pixel]
//   column[(in_c, tap)][pixel] = x[in_c][pixel * stride + tap * dilation - pad], 0 outside
//
// The matrix `column` never exists as a whole: a block of it, as wide as a block of results and as deep as one pass
// over the channels, is packed into panels that stay in L2 (gather_nest.h). Weight gradients sum over the pixels
// instead (weight_gradient_nest.h). Takes every problem.
// After: K. Chellapilla, S. Puri, P. Simard, High Performance Convolutional Neural Networks for Document Processing
// (2006), and Goto's blocking.
#include "gather_nest.h"
#include "weight_gradient_nest.h"

namespace fastconv {

Support im2col_supports(const ConvProblem&, const Machine&) { return {}; }

double im2col_cost(const ConvProblem& p, const Machine& machine, int threads) {
  return p.direction == Direction::weight_gradient ? weight_gradient_cost(p, machine, threads)
                                                   : gathers_cost(p, machine, threads, true);
}

void im2col_prepare(ConvPlan& plan) {
  if (plan.problem.direction == Direction::weight_gradient)
    prepare_weight_gradient(plan);
  else
    prepare_gathers(plan, true);
}

void im2col_pack(const ConvPlan& plan, const void* w, void* packed, Interrupt& interrupt) {
  pack_gathers(plan, w, packed, interrupt);
}

void im2col_run(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace, Interrupt& interrupt) {
  if (plan.problem.direction == Direction::weight_gradient)
    run_weight_gradient(plan, operands, workspace, interrupt);
  else
    run_gathers(plan, operands, workspace, interrupt);
}

}  // namespace fastconv
