// What the files of the rows `winograd` and `winograd_batch` share.
//
//   for item = (group, block of tiles, part of the result channels):                        one thread each
//     for tap along the depth, phase of the rows: stage of what it reads, channels last and padded (NHWC:
//       winograd_pixels.h);
//       transformed input  v[position][tile][term]                                           in L2
//     for chunk of result channels:
//       for position, panel of channels:   weights u[position][term][lane]        streamed from L2, L3, memory
//         for tiles: gemm tile: sums[position][tile][lane] = sum over terms of v * u (winograd_products.h),
//                    while the next weights are asked for: the first tile alone would wait for them
//       transform of the sums, bias, activation; to the result through a small block           in L1
//
// A term is a source channel, a phase of the stride and a tap along the depth: slices, tap after tap and in each phase
// after phase, and in each slice all channels.
//
// Input, products and results of a block never leave L2, and weights are read once per block. Tiles of several images
// form one block where the images are small: channels lie along the vector, so that no size of an image wastes lanes.
// Each sum runs over the terms in one order in one accumulator; neither blocks nor threads nor neighbours in
// the batch change a result, and neither does the batch of a call the form of a row.
//
// A dilation of d divides an axis into d phases: results j, j + d, j + 2d .. read pixels as far apart and no others, so
// that each phase is a convolution of its own. Phases of rows are images; those of columns are staged together, pixel
// by pixel as they lie, and their tiles take every d-th one.
//
// A stride of s divides the source into s phases instead, each read by every s-th tap, all of them in steps of one:
// their convolutions, of ceil(taps / s) taps, add up to the result (after: Huang, Zhang, Zhang et al., DWM, AAAI 2020,
// arXiv 2002.00552). A phase with fewer taps than the first has a zero for the last, so that all are multiplied at the
// same points and summed as channels are.
//
// Tried and lost: sums in one pass over all source channels: at 512 channels and alpha = 8 the worst element reached
// 2.9e-5 of the largest. The points 0.7, 1, 1.4 and 0.5, 0.9, 1.6 for alpha = 8: up to three times the error of 0.5, 1,
// 2. Panel by panel, and in each all positions: where the tiles of all positions exceed L2, each panel read them again.
#pragma once

#include <algorithm>

#include "../buffer.h"
#include "algorithms.h"

namespace fastconv {

// The axis of a gather as Winograd's algorithm reads it: result j reads origin + j + t * dilation, t < taps.
inline int64_t winograd_origin(const Walk& walk) { return walk.least_offset(); }

// The distance between neighbours that a result reads.
inline int64_t winograd_dilation(const Walk& walk) {
  return walk.taps == 1 ? 1 : walk.offset_step < 0 ? -walk.offset_step : walk.offset_step;
}

// The taps of a phase of the stride, and the phases that have any.
inline int64_t winograd_taps(const Walk& walk) { return (walk.taps + walk.src_step - 1) / walk.src_step; }
inline int64_t winograd_phases(const Walk& walk) { return std::min(walk.src_step, walk.taps); }

struct WinogradPanel {
  int64_t first, count, width;  // result channels of the group; lanes
  int64_t packed_offset;        // of [position][term][lane], elements
  int64_t position;             // elements between positions
};

// Elements between positions: an odd number of cache lines, as a power of two would put all positions of a filter into
// the same sets.
inline int64_t winograd_pitch(int64_t elements) {
  constexpr int64_t line = static_cast<int64_t>(kAlignment / sizeof(float));
  return (ceil_div(elements, line) | 1) * line;
}

WinogradPanel winograd_panel(const ConvPlan& plan, int64_t group, int64_t panel);

struct TermRange {
  int64_t begin, end;
};

// The terms of a part of them, counted from its first, whose weights are not all zero at the positions of the last row
// or column. Empty: begin >= end.
TermRange winograd_used(const Gather& g, const WinogradBlocking& b, int64_t part, bool last_row, bool last_col);

// Transforms the weights of a panel, the terms of a range, to u[position][term of the range][lane].
void transform_panel(const ConvPlan& plan, int64_t group, const WinogradPanel& panel, const TermRange& range,
                     const float* w, float* u, int64_t position_step);

size_t winograd_thread_bytes(const ConvPlan& plan);

// Taps at most, and of them along the depth: the weights of a channel, all taps of them, lie on the stack.
constexpr int64_t kWinogradTaps = 343, kWinogradDepthTaps = 7;
// A longer form loses digits: it must gain at least this share.
constexpr double kWinogradLongFormGain = 0.85;
// The form of an axis: index into kWinogradForms for this alpha, or -1.
int winograd_form(int64_t taps, int alpha);
// Operations to transform a line of alpha elements.
double winograd_line_in(int alpha);

// The weight gradient (winograd_weights.cpp, winograd_weights_blocking.cpp).
WinogradWeightBlocking choose_winograd_weights(const ConvProblem& problem, const Gather& gather,
                                               const Machine& machine);
double winograd_weights_cost(const ConvProblem& problem, const Machine& machine);
void prepare_winograd_weights(ConvPlan& plan);
void run_winograd_weights(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace,
                          Interrupt& interrupt);

}  // namespace fastconv
