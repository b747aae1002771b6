// Panels straight from the source: padding, stride and dilation are dealt with while a panel is written, and no stage
// stands between.
//
// What goes where is the same for every channel: a list of moves (kernels/pack, spread), made once per tile of pixels.
// Each is a vector of neighbouring results of one row, as one tap reads them; whole wherever all of it lies in the row,
// or what does not is written again and may be read.
#pragma once

#include "stage.h"

namespace fastconv {

// Whether that costs less than a stage, with so many channels at a time: the source does not lie ready, its stride is
// taken by whole vectors, few taps take the same elements, and a list is used often and stays in L1.
bool spreads(const Gather& gather, Layout layout, int64_t channels);

// Pixels [first, first + count) of a block, in a panel of `width` lanes.
struct PanelPixels {
  int64_t first, count, width;
};

// At most so many moves for a tile, of blocks of so many columns.
int64_t most_moves(const Gather& gather, int64_t width, int64_t lanes, int64_t block_cols);

// Writes the moves of a tile and returns their number. [low, high): the elements
// of the source that may be read, counted from the first channel, for each channel. Every row of the panel is written
// up to its width.
int64_t list_moves(const Gather& gather, const PixelBlock& block, const PanelPixels& pixels, int64_t lanes, int64_t low,
                   int64_t high, SpreadMove* moves);

}  // namespace fastconv
