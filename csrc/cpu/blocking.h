// Cache sizes -> block sizes: all the numbers of the loop nests, and where they come from.
#pragma once

#include <vector>

#include "stage.h"

namespace fastconv {

// No algorithm allocates more scratch than kScratchBytes + threads * kThreadScratchBytes.
constexpr size_t kScratchBytes = size_t{64} << 20;
constexpr size_t kThreadScratchBytes = size_t{8} << 20;
// Packed weights of a call without a prepared plan; larger ones are packed tile by tile while they are used.
constexpr size_t kPackedScratchBytes = size_t{32} << 20;

// `count` things in `parts` ranges that differ by at most one: range i is [begin(i), begin(i + 1)).
struct Split {
  int64_t count = 0, parts = 1;
  int64_t begin(int64_t i) const { return count * i / parts; }
  int64_t size(int64_t i) const { return begin(i + 1) - begin(i); }
};

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// How one Gather is divided (algorithms/gather_nest.h).
struct GatherBlocking {
  bool channels_on_vector = false;  // result channels along the vector, pixels down the tile's rows; or the reverse
  bool panels = true;               // pixels are packed into panels; or the tile reads the stage
  bool spread = false;              // panels come straight from the source (spread.h); or from the stage
  bool by_taps = false;             // packed weights are (tap, channel), as a tile reads a stage; or (channel, tap)
  Stage stage;
  Split k_blocks;                          // source channels, per pass over the result
  int64_t block_rows = 1, block_cols = 1;  // results per block, at most
  int64_t d_blocks = 1, h_blocks = 1, w_blocks = 1;
  Split channel_tiles;                          // result channels, one weight panel each
  int64_t summed = 0;                           // channels of the last tile, with source channels along the vector
  int64_t c_splits = 1;                         // parts of the channel tiles that may go to different threads
  bool keeps_passes = false;                    // the panels of all passes stay for the next part of the channels
  int64_t first_item = 0;                       // work items of the gathers before this one
  int64_t packed_offset = 0, packed_group = 0;  // elements: where its packed weights begin, and of one group

  int64_t blocks() const { return d_blocks * h_blocks * w_blocks; }
};

// How a weight gradient is divided (algorithms/weight_gradient_nest.h).
struct WeightGradientBlocking {
  Stage stage;
  int64_t block_rows = 1, block_cols = 1;
  int64_t d_blocks = 1, h_blocks = 1, w_blocks = 1;
  int64_t panel_pixels = 0;  // pixels summed between two updates of the result, padded to whole vectors
  Split channel_blocks;      // input channels
  Split chunks;              // blocks of pixels of all images, summed apart; does not depend on the threads
};

// The same for the nest of algorithms/weight_gradient_outer.h.
struct WeightOuterBlocking {
  bool flat = false;     // a plain matrix product: pixels follow each other, both operands are read where they lie
  bool panels = false;   // a row per (input channel, tap); or one per input channel, read tap by tap
  bool swapped = false;  // output channels down the rows, input channels along the vector; flat only
  Stage stage;
  Split flat_pixels;  // of an image, or channels last of all
  int64_t block_rows = 1, block_cols = 1;
  int64_t d_blocks = 1, h_blocks = 1, w_blocks = 1;
  int64_t pieces_at_once = 1;  // blocks of pixels between two updates of the sums
  Split row_blocks;            // channels down the rows
  Split vector_groups;         // tiles along the vector
  Split chunks;                // blocks of pixels of all images, summed apart; does not depend on the threads
};

// Which loop nest a depthwise problem takes (algorithms/depthwise_nests.h).
enum class DepthwiseNest : uint8_t { image, planes, turned, staged, channels, sums };

// How a convolution by Winograd's algorithm is divided (algorithms/winograd.h). Sizes are in elements.
struct WinogradBlocking {
  int form_h = 0, form_w = 0;  // rows of kWinogradForms
  int64_t positions = 0;       // products per tile and pair of channels
  int64_t dilation_h = 1, dilation_w = 1;
  int64_t stride_h = 1, stride_w = 1;
  int64_t phases_h = 1, phases_w = 1;        // of a stride, that have taps
  int64_t tiles_h = 0, tiles_w = 0;          // of each phase of a dilation
  Split depths;                              // terms, per pass over the sums
  Split rows, cols, phases;                  // tile rows of all images and phases of rows; tile columns; phases of
                                             // columns: a block is one part of each
  int64_t block_tiles = 0;                   // of the largest block
  int64_t tile_step = 0, position_step = 0;  // of the transformed input
  int64_t sum_step = 0, sum_position = 0;    // of the products summed over the source channels
  int64_t panels = 0, chunk_panels = 1;      // result channels: two vectors each; those whose sums are kept together
  int64_t c_splits = 1;                      // parts of the panels that may go to different threads
  int64_t packed_group = 0;

  int64_t chunks() const { return (panels + chunk_panels - 1) / chunk_panels; }
  int64_t blocks() const { return rows.parts * cols.parts * phases.parts; }
  // From a pixel of the source to the next that the taps of one phase read.
  int64_t step_h() const { return dilation_h * stride_h; }
  int64_t step_w() const { return dilation_w * stride_w; }
};

// How a weight gradient by Winograd's algorithm is divided (algorithms/winograd_weights.cpp). Sizes are in elements.
struct WinogradWeightBlocking {
  int form_h = 0, form_w = 0;
  int64_t positions = 0, tiles_h = 0, tiles_w = 0;
  Split rows;                           // tile rows of all images, in chunks that are transformed at a time
  Split sections;                       // chunks, in sections that one thread sums
  Split out_blocks, in_blocks;          // vectors of channels
  int64_t out_width = 0, in_width = 0;  // lanes of a block
  int64_t out_position = 0, in_position = 0, sum_position = 0;
};

struct Blocking {
  std::vector<GatherBlocking> gathers;
  int64_t items = 0;  // work items of all gathers, images and groups
  WeightGradientBlocking weight_gradient;
  WeightOuterBlocking weight_outer;
  DepthwiseNest depthwise_nest = DepthwiseNest::staged;
  WinogradBlocking winograd;
  WinogradWeightBlocking winograd_weight;
  size_t thread_bytes = 0;  // of the workspace, per thread
};

// Rows of the gemm tile of a machine.
int64_t gemm_rows(const Machine& machine);

// Cycles that the tiles of a rows x cols product take per element of depth, at two multiply-adds a cycle of latency
// four: small tiles wait for their own accumulators, narrow ones for their loads.
double tile_cycles(int64_t rows, int64_t max_rows, int64_t cols, int64_t lanes);

// Estimated cycles to bring the source of a gather, one image and group, into its stage; `by_rows`: undivided.
double stage_cycles(const Gather& gather, Layout layout, int64_t lanes, bool by_rows = false);

// Cycles that an element of a tile's depth costs where its pixels begin another row, and often another page, of a
// source that L1 does not hold: the address translations and the line are not foreseen by the hardware. More where a
// tile meets more pages than the first level of translations holds, or where all images and results together do not
// stay near from one call to the next (`far_away`). Zen 3.
constexpr double kJump = 1, kJumpFar = 2;
// The same in a stage that has the rows of all channels together.
constexpr double kWalkOn = 0.25;
bool far_away(const ConvProblem& problem, const Machine& machine);
double jump_cycles(const ConvProblem& problem, const Gather& gather, const Machine& machine);

// Cycles to call a gemm tile and finish it, beside its stores, and to begin a segment of its sum. Zen 3.
constexpr double kTile = 30, kSegment = 5;

// How tiles may read the pixels: packed into panels, where they lie (in the stage or in the source), or as is cheaper.
enum class PixelRead : uint8_t { panels, in_place, either };

GatherBlocking block_gather(const ConvProblem& problem, const Gather& gather, const Machine& machine, int threads,
                            PixelRead read);

// What an item of work computes: a block of pixels of an image and group, and a part of their channels.
struct Work {
  size_t gather;
  PixelBlock block;
  int64_t image, group, split;
  int64_t block_id;  // the same for all parts of the channels
};

// `gathers`: those of the plan, or one for each `together` of them that share their items.
Work work_of(const std::vector<Gather>& gathers, const Blocking& blocking, int64_t groups, int64_t item,
             size_t together = 1);

// Estimated cycles of a gather divided like this, for one image and group on one thread.
double gather_cycles(const ConvProblem& problem, const Gather& gather, const GatherBlocking& blocking,
                     const Machine& machine);

}  // namespace fastconv
