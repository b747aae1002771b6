// The loop nest of the forward and input-gradient directions, shared by im2col, direct and pointwise.
//
//   for item = (phase, image, group, block of results, part of the channels):     one thread each
//     for k in blocks of source channels:
//       stage:  rows of those channels, padded and divided by phase (stage.h), unless the source can be read in place
//       panels: (im2col, pointwise) the pixels of each tile, all taps, one behind the other (kernels/pack); where it is
//               cheaper without a stage in between (spread.h)
//       for tile of result channels:                          weight panel, from L2
//         for tile of pixels:                                 panel or stage, from L1/L2
//           gemm tile: += over k; the first k adds the bias, the last one applies the activation
//           what the next block reads is asked for, a few lines at a time (ahead.h)
//
// Either the pixels or the result channels lie along the vector (GatherBlocking::channels_on_vector).
// With panels the sum runs over (channel, tap), without over (tap, channel), in both cases in one order for every
// element: neither blocks, nor threads, nor neighbours in the batch change a result.
#pragma once

#include "algorithms.h"

namespace fastconv {

void prepare_gathers(ConvPlan& plan, PixelRead read);
double gathers_cost(const ConvProblem& problem, const Machine& machine, int threads, PixelRead read);
void pack_gathers(const ConvPlan& plan, const void* w, void* packed, Interrupt& interrupt);
void run_gathers(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace, Interrupt& interrupt);

}  // namespace fastconv
