// The loop nest of the weight gradient of few output channels: inner products along the pixels.
//
//   dw[out_c][(in_c, tap)] = sum over images and pixels of  dy[out_c][pixel] * column[(in_c, tap)][pixel]
//
//   for item = (chunk of all pixels, group, block of input channels):      one thread each
//     for blocks of pixels in the chunk, of several images where they are small:
//       columns: the taps of those channels, a row per (in_c, tap), pixels contiguous      in L2
//       rows:    dy, a row per output channel                                              in L2
//       for tile of columns: for tile of rows:  dot tile, added to the chunk's own dw
//   dw = sum of the chunks, in order
//
// The chunks depend on the problem alone, so the sums are the same for any number of threads.
#pragma once

#include "algorithms.h"

namespace fastconv {

void prepare_weight_gradient(ConvPlan& plan);
double weight_gradient_cost(const ConvProblem& problem, const Machine& machine, int threads);
void run_weight_gradient(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace,
                         Interrupt& interrupt);

}  // namespace fastconv
