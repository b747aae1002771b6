// Depthwise with the channels last (depthwise.h, DepthwisePixels): lanes are channels.
//
//   sliding, filters of 3, 5 or 7 columns side by side: for 2 rows of results: for 7 pixels: for vector of channels:
//     acc[2][7] = start
//     for row i of x that the two rows of results read:  w[2][ker_w] = the row or two of the filter that meet it
//       for its columns j:  load x once;  for tw with p = (j - tw) / step_w whole: acc[:][p] += w[:][tw] * x
//   any, and what is left of a row or of the channels: for 7 pixels, then 4, 1: acc[p] += w * x[p * step_w + tw] for
//   th, tw, each loaded where it is used
//
// Register budget, sliding: rows * (7 acc + ker_w weights) + 1: two rows, 29 of 32, or one row, 15 of 16.
// Loads of x per multiply-add, 3x3: 36/126 with two rows, 27/63 with one. They rarely lie on whole cache lines (NumPy
// aligns to 16 bytes), which makes each of them two: with x an operand in memory, nine times, they were all that
// counted. The vector of channels is innermost, so that rows are read and written as they lie in memory; with it
// outside the pixels the columns lie on few sets of L1 where the channels are a power of two. Columns and rows outside
// are skipped. Order of the sum: th, then tw, for each result, whatever its tile.
// Tried and lost: x as an operand in memory for filters of 3, 5 and 7; asking for the columns of the next seven pixels
// ahead, where the image is in cache (the requests take the place of loads). Images beyond the caches: not tried.
#pragma once

#include "depthwise.h"
#include "isa.h"

namespace {

using fastconv::DepthwisePixels;

// Results side by side of a block: maps of 224, 112, .. 7 divide by it.
constexpr int kPixels = 7;

template <class T, bool whole>
FASTCONV_INLINE Vector<T> load_channels(const T* p, int count) {
  if constexpr (whole)
    return load(p);
  else
    return load_some(p, count);
}

template <class T>
FASTCONV_INLINE Vector<T> start_of_channels(const DepthwisePixels<T>& t, const T* y, int64_t c, int count) {
  const Vector<T> bias = t.bias ? load_some(t.bias + c, count) : Vector<T>{};
  return t.add ? bias + load_some(t.add + (y - t.y), count) : bias;
}

template <class T, bool whole>
FASTCONV_INLINE void finish_channels(const DepthwisePixels<T>& t, T* y, Vector<T> value, int count) {
  if (t.activate) value = clamp<T>(value, t.low, t.high);
  if constexpr (whole)
    store(y, value);
  else
    store_some(y, value, count);
}

template <class T, int pixels, bool inner, bool whole>
FASTCONV_INLINE void channels_block(const DepthwisePixels<T>& t, int64_t r, int64_t q, int64_t c, int count) {
  Vector<T> acc[pixels];
  T* const y = t.y + r * t.y_row + q * t.y_col + c;
#pragma GCC unroll 7
  for (int p = 0; p < pixels; ++p) acc[p] = start_of_channels(t, y + p * t.y_col, c, count);
  const int64_t step = t.step_w * t.x_col;
  for (int64_t th = 0; th < t.ker_h; ++th) {
    const int64_t row = t.first_h + r * t.step_h + th * t.tap_h;
    if ((uint64_t)row >= (uint64_t)t.in_h) continue;
    for (int64_t tw = 0; tw < t.ker_w; ++tw) {
      const Vector<T> w = load_channels<T, whole>(t.w + (th * t.ker_w + tw) * t.w_tap + c, count);
      const int64_t col = t.first_w + q * t.step_w + tw * t.tap_w;
      const T* const x = t.x + row * t.x_row + col * t.x_col + c;
#pragma GCC unroll 7
      for (int p = 0; p < pixels; ++p)
        if (inner || (uint64_t)(col + p * t.step_w) < (uint64_t)t.in_w)
          acc[p] += load_channels<T, whole>(x + p * step, count) * w;
    }
  }
#pragma GCC unroll 7
  for (int p = 0; p < pixels; ++p) finish_channels<T, whole>(t, y + p * t.y_col, acc[p], count);
}

// Channels from c on that fill no vector.
template <class T, int pixels>
void channels_rest(const DepthwisePixels<T>& t, int64_t r, int64_t q, int64_t c) {
  channels_block<T, pixels, false, false>(t, r, q, c, (int)(t.channels - c));
}

template <class T, int pixels>
void channels_pixels(const DepthwisePixels<T>& t, int64_t r, int64_t q) {
  const int64_t near = t.first_w + q * t.step_w, far = near + (t.ker_w - 1) * t.tap_w;
  const int64_t least = near < far ? near : far, most = (near < far ? far : near) + (pixels - 1) * t.step_w;
  const bool inner = least >= 0 && most < t.in_w;
  int64_t c = 0;
  for (; c + kLanes<T> <= t.channels; c += kLanes<T>)
    if (inner)
      channels_block<T, pixels, true, true>(t, r, q, c, kLanes<T>);
    else
      channels_block<T, pixels, false, true>(t, r, q, c, kLanes<T>);
  if (c < t.channels) channels_rest<T, pixels>(t, r, q, c);
}

// Results of row r from q on.
template <class T>
void channels_row(const DepthwisePixels<T>& t, int64_t r, int64_t q) {
  for (; q + kPixels <= t.cols; q += kPixels) channels_pixels<T, kPixels>(t, r, q);
  for (; q + 4 <= t.cols; q += 4) channels_pixels<T, 4>(t, r, q);
  for (; q < t.cols; ++q) channels_pixels<T, 1>(t, r, q);
}

template <class T>
void channels_any(const DepthwisePixels<T>& t) {
  for (int64_t r = 0; r < t.rows; ++r) channels_row(t, r, 0);
}

// Rows of results that a block takes together.
constexpr int kSlidingRows = FASTCONV_VECTOR_BYTES == 64 ? 2 : 1;

// kSlidingRows rows of results from r on, seven of them from q on, for a whole vector of channels. Bit j of `inside`:
// column j of x that they read is inside the image; with `inner` all of them are.
template <class T, int ker, int step_w, bool inner>
void sliding_block(const DepthwisePixels<T>& t, int64_t r, int64_t q, int64_t c, uint32_t inside) {
  constexpr int pixels = kPixels, rows = kSlidingRows;
  Vector<T> acc[rows][pixels];
  T* const y = t.y + r * t.y_row + q * t.y_col + c;
  const int64_t y_col = t.y_col, y_row = t.y_row;
  const Vector<T> bias = t.bias ? load(t.bias + c) : Vector<T>{};
#pragma GCC unroll 2
  for (int k = 0; k < rows; ++k)
#pragma GCC unroll 7
    for (int p = 0; p < pixels; ++p) acc[k][p] = bias;
  if (t.add) {
    const T* const add = t.add + (y - t.y);
#pragma GCC unroll 2
    for (int k = 0; k < rows; ++k)
#pragma GCC unroll 7
      for (int p = 0; p < pixels; ++p) acc[k][p] += load(add + k * y_row + p * y_col);
  }
  const int64_t between = rows == 1 ? 0 : t.step_h / t.tap_h;
  const int64_t first = t.first_h + r * t.step_h, x_col = t.x_col, w_tap = t.w_tap;
  // Rows [begin, end) of x that they read are inside: all of one side's are outside before and behind.
  int64_t begin = 0, end = between + t.ker_h;
  while (begin < end && first + begin * t.tap_h < 0) ++begin;
  while (end > begin && first + (end - 1) * t.tap_h >= t.in_h) --end;
  const T* row = t.x + (first + begin * t.tap_h) * t.x_row + (t.first_w + q * step_w) * x_col + c;
  const T* w = t.w + begin * ker * w_tap + c;
  const auto add = [&]<int from, int to>() __attribute__((always_inline)) {
    Vector<T> held[rows][ker];
#pragma GCC unroll 2
    for (int k = from; k <= to; ++k)
#pragma GCC unroll 7
      for (int tw = 0; tw < ker; ++tw) held[k][tw] = load(w + (tw - k * between * ker) * w_tap);
    const T* x = row;
#pragma GCC unroll 20
    for (int j = 0; j < (pixels - 1) * step_w + ker; ++j, x += x_col) {
      if constexpr (!inner)
        if (__builtin_expect(!(inside >> j & 1), 0)) continue;
      const Vector<T> value = load(x);
#pragma GCC unroll 7
      for (int tw = 0; tw < ker; ++tw) {
        if (j < tw || (j - tw) % step_w != 0 || (j - tw) / step_w >= pixels) continue;
#pragma GCC unroll 2
        for (int k = from; k <= to; ++k) acc[k][(j - tw) / step_w] += value * held[k][tw];
      }
    }
  };
  const int64_t next = t.tap_h * t.x_row;
  for (int64_t i = begin; i < end; ++i, row += next, w += ker * w_tap) {
    if (rows == 1 || i < between)
      add.template operator()<0, 0>();
    else if (i >= t.ker_h)
      add.template operator()<rows - 1, rows - 1>();
    else
      add.template operator()<0, rows - 1>();
  }
  if (t.activate)
#pragma GCC unroll 2
    for (int k = 0; k < rows; ++k)
#pragma GCC unroll 7
      for (int p = 0; p < pixels; ++p) acc[k][p] = clamp<T>(acc[k][p], t.low, t.high);
#pragma GCC unroll 2
  for (int k = 0; k < rows; ++k)
#pragma GCC unroll 7
    for (int p = 0; p < pixels; ++p) store(y + k * y_row + p * y_col, acc[k][p]);
}

template <class T, int ker, int step_w>
FASTCONV_INLINE void sliding_rows(const DepthwisePixels<T>& t, int64_t r) {
  constexpr int span = (kPixels - 1) * step_w + ker;
  // The last pixels lie over those before them, and are written twice with equal values; not where y is added to.
  const bool overlap = t.cols >= kPixels && t.add != t.y;
  int64_t q = 0;
  for (; q + kPixels <= t.cols || (overlap && q < t.cols); q += kPixels) {
    if (q + kPixels > t.cols) q = t.cols - kPixels;
    const int64_t col = t.first_w + q * step_w;
    const bool inner = col >= 0 && col + span <= t.in_w;
    uint32_t inside = 0;
    for (int j = 0; j < span && !inner; ++j) inside |= (uint32_t)((uint64_t)(col + j) < (uint64_t)t.in_w) << j;
    int64_t c = 0;
    if (inner)
      for (; c + kLanes<T> <= t.channels; c += kLanes<T>) sliding_block<T, ker, step_w, true>(t, r, q, c, 0);
    for (; c + kLanes<T> <= t.channels; c += kLanes<T>) sliding_block<T, ker, step_w, false>(t, r, q, c, inside);
    if (c < t.channels)
      for (int k = 0; k < kSlidingRows; ++k) channels_rest<T, kPixels>(t, r + k, q, c);
  }
  for (int k = 0; k < kSlidingRows; ++k) channels_row(t, r + k, q);
}

template <class T, int ker, int step_w>
void sliding_tile(const DepthwisePixels<T>& t) {
  int64_t r = 0;
  if (kSlidingRows == 1 || (t.step_h % t.tap_h == 0 && t.step_h / t.tap_h < t.ker_h))
    for (; r + kSlidingRows <= t.rows; r += kSlidingRows) sliding_rows<T, ker, step_w>(t, r);
  if (r > 0 && r < t.rows && t.add != t.y) {
    sliding_rows<T, ker, step_w>(t, t.rows - kSlidingRows);
    return;
  }
  for (; r < t.rows; ++r) channels_row(t, r, 0);
}

template <class T>
void channels_tile(const DepthwisePixels<T>& t) {
  if constexpr (kTuned) {
    const int64_t ker = t.tap_w == 1 && (t.step_w == 1 || t.step_w == 2) ? t.ker_w : 0;
    const bool wide = t.step_w == 2;
    if (ker == 3) return wide ? sliding_tile<T, 3, 2>(t) : sliding_tile<T, 3, 1>(t);
    if (ker == 5) return wide ? sliding_tile<T, 5, 2>(t) : sliding_tile<T, 5, 1>(t);
    if (ker == 7) return wide ? sliding_tile<T, 7, 2>(t) : sliding_tile<T, 7, 1>(t);
  }
  channels_any(t);
}

}  // namespace
