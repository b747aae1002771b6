// The loop nest of the weight gradient: a matrix product along the pixels, by the gemm tile.
//
//   dw[out_c][(in_c, tap)] = sum over images and pixels of  dy[out_c][pixel] * x[in_c][pixel * stride + tap - pad]
//
//   for item = (chunk of all pixels, group, block of input channels, some output channels):            one thread each
//     for blocks of pixels in the chunk, of several images where they are small:
//       panels:  dy turned, [pixel][output channels of a tile]                                           in L1, L2
//       rows:    x with its padding, a row per input channel, or with `panels` a row per (in_c, tap)      in L2
//       for some rows, that stay in L2:
//         for panel: for tile of rows: for tap:  gemm tile, added to the item's own sums
//     the sums, turned, to the chunk's dw
//   dw = sum of the chunks, in order
//
// Rows are read where they lie, an element at a time, so that only one operand is turned. Where the convolution is a
// plain matrix product the parts may be swapped: x is turned and dy gives the rows. Of both ways the cheaper is taken.
// The chunks depend on the problem alone, so the sums are the same for any number of threads.
#pragma once

#include "algorithms.h"

namespace fastconv {

// Pixels summed between two updates of the sums: a panel of two vectors of them stays in L1, and loading and storing
// a tile of sums costs a hundredth of its products.
constexpr int64_t kWeightPanelPixels = 384;

WeightOuterBlocking block_weight_outer(const ConvProblem& problem, const Gather& gather, const Machine& machine,
                                       bool panels);

void prepare_weight_outer(ConvPlan& plan, bool panels);
double weight_outer_cost(const ConvProblem& problem, const Machine& machine, bool panels);
void run_weight_outer(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace, Interrupt& interrupt);

}  // namespace fastconv
