// direct: the tiles read the padded image itself; nothing is lowered.
//
//   acc[channels][pixels] += over taps, then input channels, of  w * stage[in_c][row of the tap + pixel]
//
// With the result channels along the vector pixels are read one by one: the stage is then a plain copy of the rows,
// a stride undivided (stage.h), which is what strided convolutions take.
// Tried and lost there: pieces of a row for each tile, aligned to lines (no gain); rows by channel and weights by
// channel (a jump per term); blocks of more rows (two fill L2 with what passes by).
// A tile lies within one row of results. Where im2col writes every input element once per tap, this reads it once per
// tap from a stage that was written once; it pays where the result has few channels (stems, the lecture's layers),
// since a panel is then read too few times to be worth packing. The nest is gather_nest.h without panels.
// An input gradient with a stride along the width computes all phases of it together (phase_nest.h).
// A weight gradient reads the padded image in the same way (weight_gradient_outer.h).
#include "gather_nest.h"
#include "phase_nest.h"
#include "weight_gradient_outer.h"

namespace fastconv {

Support direct_supports(const ConvProblem&, const Machine&) { return {}; }

double direct_cost(const ConvProblem& p, const Machine& machine, int threads) {
  if (p.direction == Direction::weight_gradient) return weight_outer_cost(p, machine, false) / threads;
  if (phases_together(p, machine)) return phases_cost(p, machine, threads);
  return gathers_cost(p, machine, threads, PixelRead::in_place);
}

void direct_prepare(ConvPlan& plan) {
  if (plan.problem.direction == Direction::weight_gradient)
    prepare_weight_outer(plan, false);
  else if (phases_together(plan.problem, plan.machine))
    prepare_phases(plan);
  else
    prepare_gathers(plan, PixelRead::in_place);
}

void direct_pack(const ConvPlan& plan, const void* w, void* packed, Interrupt& interrupt) {
  pack_gathers(plan, w, packed, interrupt);
}

void direct_run(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace, Interrupt& interrupt) {
  if (plan.problem.direction == Direction::weight_gradient)
    run_weight_outer(plan, operands, workspace, interrupt);
  else if (phases_together(plan.problem, plan.machine))
    run_phases(plan, operands, workspace, interrupt);
  else
    run_gathers(plan, operands, workspace, interrupt);
}

}  // namespace fastconv
