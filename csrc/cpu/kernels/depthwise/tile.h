// The tiles of depthwise.h, once for every ISA.
//
//   for rows in steps of 4: for columns in steps of one vector:                       unrolled: row reuse
//     acc[4] = start
//     for input row i of (4 - 1) * step + ker_h:  load its ker_w shifted vectors once
//       for r in 4 with th = i - r * step inside the filter: acc[r] += w[th][:] * loaded[:]
//   any: acc[4][2] over all taps, each loaded where it is used
//
// Register budget, unrolled, AVX-512: 4 acc + 7 loaded + 1 weight of 32; AVX2 and SSE: 4 + 7 + 1 of 16. Weights are
// broadcast from L1 as operands. Loads of x per multiply-add at 3x3: stride 1 18/36, stride 2 27/36.
// Order of the sum: th, then tw, for each result, whatever its tile.
#pragma once

#include "../../simd.h"
#include "depthwise.h"

namespace {

using fastconv::DepthwiseKernel;
using fastconv::DepthwiseTile;

template <class T>
FASTCONV_INLINE Vector<T> start_of(const DepthwiseTile<T>& t, const T* y, int count) {
  return t.accumulate ? load_some(y, count) : broadcast(t.bias);
}

template <class T>
FASTCONV_INLINE void finish(const DepthwiseTile<T>& t, T* y, Vector<T> value, int count) {
  if (t.activate) value = clamp<T>(value, t.low, t.high);
  if (count == kLanes<T>)
    store(y, value);
  else
    store_some(y, value, count);
}

// `rows` results one below the other, one vector wide.
template <class T, int ker, int step, int rows>
FASTCONV_INLINE void unrolled_block(const DepthwiseTile<T>& t, const T* x, T* y, int count) {
  Vector<T> acc[rows];
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) acc[r] = start_of(t, y + r * t.y_row, count);
#pragma GCC unroll 16
  for (int i = 0; i < (rows - 1) * step + ker; ++i) {
    Vector<T> loaded[ker];
#pragma GCC unroll 7
    for (int tw = 0; tw < ker; ++tw) loaded[tw] = load(x + i * t.x_row + t.column[tw]);
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      const int th = i - r * step;
      if (th < 0 || th >= ker) continue;
#pragma GCC unroll 7
      for (int tw = 0; tw < ker; ++tw) acc[r] += loaded[tw] * broadcast(t.w[th * ker + tw]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) finish(t, y + r * t.y_row, acc[r], count);
}

template <class T, int ker, int step>
FASTCONV_INLINE void unrolled_rows(const DepthwiseTile<T>& t) {
  for (int64_t q = 0; q < t.cols; q += kLanes<T>) {
    const int count = t.cols - q < kLanes<T> ? (int)(t.cols - q) : kLanes<T>;
    const T* x = t.x + q;
    T* y = t.y + q;
    int64_t r = 0;
    for (; r + 4 <= t.rows; r += 4) unrolled_block<T, ker, step, 4>(t, x + r * step * t.x_row, y + r * t.y_row, count);
    for (; r < t.rows; ++r) unrolled_block<T, ker, step, 1>(t, x + r * step * t.x_row, y + r * t.y_row, count);
  }
}

template <class T, int ker>
void unrolled_tile(const DepthwiseTile<T>& t) {
  t.row_step == 1 ? unrolled_rows<T, ker, 1>(t) : unrolled_rows<T, ker, 2>(t);
}

template <class T, int rows>
FASTCONV_INLINE void any_block(const DepthwiseTile<T>& t, const T* x, T* y, int count) {
  const int64_t x_step = t.row_step * t.x_row;
  Vector<T> acc[rows];
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) acc[r] = start_of(t, y + r * t.y_row, count);
  for (int64_t th = 0; th < t.ker_h; ++th)
    for (int64_t tw = 0; tw < t.ker_w; ++tw) {
      const Vector<T> w = broadcast(t.w[th * t.ker_w + tw]);
      const T* const from = x + th * t.tap_row + t.column[tw];
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) acc[r] += load(from + r * x_step) * w;
    }
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) finish(t, y + r * t.y_row, acc[r], count);
}

template <class T>
void any_tile(const DepthwiseTile<T>& t) {
  const int64_t x_step = t.row_step * t.x_row;
  for (int64_t q = 0; q < t.cols; q += kLanes<T>) {
    const int count = t.cols - q < kLanes<T> ? (int)(t.cols - q) : kLanes<T>;
    int64_t r = 0;
    for (; r + 4 <= t.rows; r += 4) any_block<T, 4>(t, t.x + q + r * x_step, t.y + q + r * t.y_row, count);
    for (; r < t.rows; ++r) any_block<T, 1>(t, t.x + q + r * x_step, t.y + q + r * t.y_row, count);
  }
}

template <class T>
constexpr DepthwiseKernel<T> make_depthwise_kernel() {
  return {{unrolled_tile<T, 3>, unrolled_tile<T, 5>, unrolled_tile<T, 7>}, any_tile<T>};
}

}  // namespace
