// One filter of 3, 5 or 7 rows and columns over each of several planes in a row (depthwise.h, DepthwisePlanes).
//
//   for plane: copy of the next one between zeros, in L1
//     for columns in steps of two vectors, then one:  for rows of results in steps of kPlaneRows:
//       acc[rows][vectors] = start;  for tap tw, a loop:  w[ker] = that column of the filter
//         for row i of the copy, unrolled:  load x once;  for r with th = i - r inside the filter: acc[r][:] += w[th] *
//         x
//
// Between zeros nothing needs a mask or a test. A plane is copied before the one ahead of it is computed, since what
// was just stored in parts cannot be loaded at once as a whole. The last vector of a row and the last rows lie over
// those before them, and are written twice with equal values. Where a row is less than a vector, whole ones are stored
// too: what is too much of one is written over by the next row, and the rows at the end of the last plane are stored
// exactly. Register budget, 16: two vectors of 4 rows or one of 7: 8 acc + a column of the filter + 2. Order of the
// sum: tw, then th.
#pragma once

#include "../../simd.h"
#include "depthwise.h"

namespace {

using fastconv::DepthwiseCopies;
using fastconv::DepthwisePlanes;

template <class T>
FASTCONV_INLINE void copy_plane(const DepthwiseCopies<T>& t, int64_t plane) {
  const int64_t in_w = t.in_w, row = t.row, last = in_w - kLanes<T>;
  const T* x = t.x + plane * t.in_h * in_w;
  T* to = t.copy[plane % 2] + t.first;
  if (last < 0) {
    const int count = (int)in_w;
    for (int64_t r = 0; r < t.in_h; ++r) store(to + r * row, load_some(x + r * in_w, count));
    return;
  }
  for (int64_t r = 0; r < t.in_h; ++r, x += in_w, to += row) {
    for (int64_t q = 0; q < last; q += kLanes<T>) store(to + q, load(x + q));
    store(to + last, load(x + last));
  }
}

// Results of a plane and what they start from.
template <class T>
struct PlaneOut {
  const T *x, *w;  // the copy, and the filter of the plane
  T* y;
  const T* add;
  T bias;
  int64_t safe;  // whole vectors may be stored that begin before
};

template <class T, int ker, int rows, int vectors>
FASTCONV_INLINE void planes_block(const DepthwisePlanes<T>& t, const PlaneOut<T>& p, int64_t r, int64_t q,
                                  int64_t apart) {
  const int64_t y_row = t.cols, next = t.from.row, tap_w = t.tap_w, w_step = t.w_step;
  const int64_t at = r * y_row + q;
  Vector<T> acc[rows][vectors];
  const Vector<T> bias = broadcast(p.bias);
#pragma GCC unroll 7
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) acc[i][v] = bias;
  // Where a row is less than a vector there is one, and its last rows must not be touched behind their end.
  const bool whole = at + (rows - 1) * y_row + (vectors - 1) * apart < p.safe;
  const int count = whole ? kLanes<T> : (int)t.cols;
  if (p.add)
#pragma GCC unroll 7
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) acc[i][v] += load_some(p.add + at + i * y_row + v * apart, count);
  const T *x = p.x + r * t.from.row + q, *w = p.w;
#pragma GCC unroll 1
  for (int tw = 0; tw < ker; ++tw, x += tap_w, w += w_step) {
    Vector<T> held[ker];
#pragma GCC unroll 7
    for (int th = 0; th < ker; ++th) held[th] = broadcast(w[th * ker * w_step]);
    const T* from = x;
#pragma GCC unroll 13
    for (int i = 0; i < rows - 1 + ker; ++i, from += next) {
      Vector<T> part[vectors];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) part[v] = load(from + v * apart);
#pragma GCC unroll 7
      for (int k = 0; k < rows; ++k) {
        if (i < k || i - k >= ker) continue;
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) acc[k][v] += part[v] * held[i - k];
      }
    }
  }
  if (t.activate)
#pragma GCC unroll 7
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) acc[i][v] = clamp<T>(acc[i][v], t.low, t.high);
  T* const y = p.y + at;
  if (whole) {
#pragma GCC unroll 7
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) store(y + i * y_row + v * apart, acc[i][v]);
  } else {
#pragma GCC unroll 7
    for (int i = 0; i < rows; ++i) store_some(y + i * y_row, acc[i][0], count);
  }
}

template <class T, int ker, int rows, int vectors>
void planes_column(const DepthwisePlanes<T>& t, const PlaneOut<T>& p, int64_t q, int64_t apart) {
  if (t.rows >= rows) {
    for (int64_t r = 0; r < t.rows; r += rows)
      planes_block<T, ker, rows, vectors>(t, p, r + rows <= t.rows ? r : t.rows - rows, q, apart);
  } else if constexpr (rows > 1) {
    planes_column<T, ker, rows == 7 ? 4 : 1, vectors>(t, p, q, apart);
  }
}

template <class T, int ker>
void planes_tile(const DepthwisePlanes<T>& t) {
  constexpr int kPairRows = FASTCONV_VECTOR_BYTES == 64 ? 7 : 4;
  const int64_t planes = t.from.planes, out = t.rows * t.cols;
  const int64_t last = t.cols > kLanes<T> ? t.cols - kLanes<T> : 0;
  copy_plane(t.from, 0);
  for (int64_t i = 0; i < planes; ++i) {
    if (i + 1 < planes) copy_plane(t.from, i + 1);
    const PlaneOut<T> p{
        t.from.copy[i % 2] + t.read,       t.w + i * ker * ker,       t.y + i * out,
        t.add ? t.add + i * out : nullptr, t.bias ? t.bias[i] : T{0}, (planes - i) * out - kLanes<T> + 1};
    int64_t q = 0;
    for (; q < last; q += 2 * kLanes<T>)
      planes_column<T, ker, kPairRows, 2>(t, p, q, q + kLanes<T> < last ? kLanes<T> : last - q);
    if (q < last + kLanes<T>) planes_column<T, ker, 7, 1>(t, p, last, 0);
  }
}

}  // namespace
