// im2col: convolution as a matrix product, lowered tile by tile while the pixels are packed.
//
//   y[out_c][pixel] = sum over (in_c, tap) of  w[out_c][(in_c, tap)] * column[(in_c, tap)][pixel]
//   column[(in_c, tap)][pixel] = x[in_c][pixel * stride + tap * dilation - pad], 0 outside
//
// The matrix `column` never exists as a whole: a block of it, as wide as a block of results and as deep as one pass
// over the channels, is packed into panels that stay in L2 (gather_nest.h). Weight gradients sum over the pixels
// instead: by the gemm tile (weight_gradient_outer.h), or, where a group has too few output channels to fill vectors,
// by inner products along the pixels (weight_gradient_nest.h). Takes every problem.
// After: K. Chellapilla, S. Puri, P. Simard, High Performance Convolutional Neural Networks for Document Processing
// (2006), and Goto's blocking.
#include <algorithm>

#include "gather_nest.h"
#include "weight_gradient_nest.h"
#include "weight_gradient_outer.h"

namespace fastconv {

Support im2col_supports(const ConvProblem&, const Machine&) { return {}; }

namespace {

bool inner_products(const ConvProblem& p, const Machine& machine) {
  return weight_gradient_cost(p, machine, 1) < weight_outer_cost(p, machine, true);
}

}  // namespace

double im2col_cost(const ConvProblem& p, const Machine& machine, int threads) {
  if (p.direction != Direction::weight_gradient) return gathers_cost(p, machine, threads, PixelRead::panels);
  return std::min(weight_gradient_cost(p, machine, 1), weight_outer_cost(p, machine, true)) / threads;
}

void im2col_prepare(ConvPlan& plan) {
  if (plan.problem.direction != Direction::weight_gradient)
    prepare_gathers(plan, PixelRead::panels);
  else if (inner_products(plan.problem, plan.machine))
    prepare_weight_gradient(plan);
  else
    prepare_weight_outer(plan, true);
}

void im2col_pack(const ConvPlan& plan, const void* w, void* packed, Interrupt& interrupt) {
  pack_gathers(plan, w, packed, interrupt);
}

void im2col_run(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace, Interrupt& interrupt) {
  if (plan.problem.direction != Direction::weight_gradient)
    run_gathers(plan, operands, workspace, interrupt);
  else if (inner_products(plan.problem, plan.machine))
    run_weight_gradient(plan, operands, workspace, interrupt);
  else
    run_weight_outer(plan, operands, workspace, interrupt);
}

}  // namespace fastconv
