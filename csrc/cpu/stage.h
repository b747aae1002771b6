// The stage: the part of the source that one block of results reads, made easy to read.
//
// Rows are padded with the zeros they need and, for a stride along the width, divided into one row per phase, so that
// neighbouring results read neighbouring elements whatever the stride, dilation, padding and layout:
//
//   channel 0: slice t_d=0: row 0: | phase 0: q=0 1 2 .. | phase 1: .. |   row 1: ...      slice t_d=1: ...
//   channel 1: ...
//   phase p, element q of a row  =  source column  first + q * src_step + p
//
// Where results are read one by one (channels along the vector) their distance is free: rows are copied as they are,
// a stride undivided, and those of all channels follow each other, so that a tile, which goes through the channels of
// one tap after the other, walks on in memory:
//
//   slice t_d=0: row 0: channel 0: x=0 1 2 ..  channel 1: ..   row 1: ...
//
// Result (jh, jw) and tap t of channel c are found at
// c * plane + tap_offset[t] + row_offset(jh) + (jw - w0) * pixel_step.
// Rows and phases that no tap reads are not stored. Where nothing has to be padded or divided the source itself is
// such a stage, and is read in place.
#pragma once

#include <vector>

#include "../core/gather.h"
#include "kernels/kernels.h"

namespace fastconv {

// A block of results: rows [h0, h1) and columns [w0, w1) of depth d, of one phase.
struct PixelBlock {
  int64_t d, h0, h1, w0, w1;
  int64_t cols() const { return w1 - w0; }
  int64_t pixels() const { return (h1 - h0) * (w1 - w0); }
};

struct Stage {
  bool in_place = false;
  // in elements, from one to the next; `plane`: from channel to channel
  int64_t plane = 0, row = 0, rows = 0, slice = 0;
  int64_t pixel_step = 1;  // from one result of a row to the next
  int64_t by_rows = 0;     // not 0: what all channels take, their rows together
  int64_t row_unit = 1;    // source rows from one stored row to the next
  int64_t row_step = 1;    // stored rows from one result row to the next
  int64_t phase_width = 0;
  std::vector<int64_t> phases;      // those stored
  std::vector<int64_t> tap_offset;  // per tap, depth-major

  // Offset of the first result of row jh of a block, counted from the block's stage (or from the source in place).
  int64_t row_offset(const Gather& g, const PixelBlock& block, int64_t jh) const;
  // Elements for this many channels, with the slack that whole vectors need.
  int64_t elements(int64_t channels) const { return (by_rows ? by_rows : channels * plane) + kMaxVectors * kPackSlack; }
};

// Whether rows of NCHW are divided into their phases by one kernel that reads them once: strides of 2 and 4, of which
// the taps take all phases in their order.
bool read_once(const Walk& w);

// Whether nothing has to be padded or divided.
bool lies_ready(const Gather& g, Layout layout);

// For blocks of at most block_rows x block_cols results. A stage in place has no slack behind it: whoever reads whole
// vectors forbids it. `by_rows`: not 0 where results are read one by one, at most so many channels.
Stage make_stage(const Gather& g, Layout layout, int64_t block_rows, int64_t block_cols, bool may_be_in_place = true,
                 int64_t by_rows = 0);

// Where the source of a call lies: the first channel of the group of the image.
template <class T>
struct Source {
  const T* data;
  int64_t channel, d, h, w;  // strides in elements
};

template <class T>
void fill_stage(const Stage& stage, const Gather& g, const Source<T>& source, const PixelBlock& block, int64_t channels,
                const PackKernel<T>& pack, T* out);

}  // namespace fastconv
