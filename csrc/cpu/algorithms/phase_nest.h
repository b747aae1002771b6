// The loop nest of an input gradient with a stride along the width, planar: all phases of the width together.
//
//   for item = (phase of depth and height, image, group, block of results, part of the channels):      one thread each
//     stage:  the rows of the block, padded for all phases of the width                                       in L2
//     for tile of result channels:
//       for phase of the width: for tile of pixels:  gemm tile, into a row of its own                         in L1
//       the rows of the phases, an element of each in turn, to the result (kernels/pack, interleave)
//
// Phase by phase each result would be stored alone. Since nothing is stored where it belongs, the tiles need not end
// with the rows either: they run over the stage, its padding between the rows included, and what is computed there is
// left out afterwards.
// The sum of an element runs over (tap, channel), in one order for every element.
// Tried and lost: sums over (part of the channels, tap, channel), in which the lines that taps share are still in L1;
// the lines of the result asked for while its tiles run.
#pragma once

#include "algorithms.h"

namespace fastconv {

// Whether the problem is such a gradient, and its phases read rows near enough to each other.
bool phases_together(const ConvProblem& problem, const Machine& machine);

void prepare_phases(ConvPlan& plan);
double phases_cost(const ConvProblem& problem, const Machine& machine, int threads);
void run_phases(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace, Interrupt& interrupt);

}  // namespace fastconv
