// Input gradients of a stride of 2 by 2 over several planes in a row (depthwise.h, DepthwisePlanePairs).
//
//   for plane: copy of the next one between zeros (padded.h)
//     for two rows of results: for columns in steps of two vectors:
//       for its (ker + 1) / 2 rows and columns of the copy:  load x once
//         for the two rows and the even and odd columns of results:  acc += x * w, where x and they share a tap
//       lanes of even and odd columns alternate in the rows that are stored
//
// Register budget, 16, 3x3: 4 acc + the filter + 2; 5x5 reads its filter from L1. The last vectors of a row lie over
// those before them, if rows are that long and of even length; rows of less than two vectors are stored whole, and what
// is too much is written over by the next row. Order of the sum: rows of the copy, then columns.
#pragma once

#include "padded.h"
#include "pairs.h"

namespace {

using fastconv::DepthwisePlanePairs;

// Which tap meets element u of a window of the copy, along one axis: of results at even or at odd places. -1 for none.
template <int ker, bool even_first>
constexpr int tap_of(int odd, int u) {
  const int tap = (odd == 0) == even_first ? ker - 1 - 2 * u : even_first ? ker - 2 * u : ker - 2 - 2 * u;
  return tap < ker ? tap : -1;
}

// Two rows of results from y on, and two vectors of each of which `count` are wanted.
template <class T, int ker, bool even_first>
FASTCONV_INLINE void plane_pairs_block(const DepthwisePlanePairs<T>& t, const T* x, const Vector<T> (&w)[ker][ker],
                                       T bias, T* y, int rows, int64_t count) {
  constexpr int window = (ker + 1) / 2;
  Vector<T> acc[2][2];
  acc[0][0] = acc[0][1] = acc[1][0] = acc[1][1] = broadcast(bias);
#pragma GCC unroll 4
  for (int u = 0; u < window; ++u)
#pragma GCC unroll 4
    for (int v = 0; v < window; ++v) {
      const Vector<T> part = load(x + u * t.from.row + v);
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i)
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j) {
          const int th = tap_of<ker, even_first>(i, u), tw = tap_of<ker, even_first>(j, v);
          if (th >= 0 && tw >= 0) acc[i][j] += part * w[th][tw];
        }
    }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    if (i == rows) break;
    if (t.activate)
#pragma GCC unroll 2
      for (int j = 0; j < 2; ++j) acc[i][j] = clamp<T>(acc[i][j], t.low, t.high);
    const Vector<T> first = alternated<0>(acc[i][0], acc[i][1], typename MakeIndices<kLanes<T>>::type{});
    const Vector<T> second = alternated<1>(acc[i][0], acc[i][1], typename MakeIndices<kLanes<T>>::type{});
    T* const to = y + i * t.cols;
    if (count >= 2 * kLanes<T>) {
      store(to, first);
      store(to + kLanes<T>, second);
      continue;
    }
    store_some(to, first, count < kLanes<T> ? (int)count : kLanes<T>);
    if (count > kLanes<T>) store_some(to + kLanes<T>, second, (int)count - kLanes<T>);
  }
}

template <class T, int ker, bool even_first>
FASTCONV_INLINE void plane_pairs_plane(const DepthwisePlanePairs<T>& t, const T* copy, const T* filter, T bias, T* y,
                                       int64_t safe) {
  constexpr int two = 2 * kLanes<T>;
  Vector<T> w[ker][ker];
#pragma GCC unroll 5
  for (int th = 0; th < ker; ++th)
#pragma GCC unroll 5
    for (int tw = 0; tw < ker; ++tw) w[th][tw] = broadcast(filter[th * ker + tw]);
  const int64_t cols = t.cols;
  for (int64_t r = 0; r < t.rows; r += 2, copy += t.from.row) {
    const int rows = r + 1 < t.rows ? 2 : 1;
    T* const to = y + r * cols;
    if (cols < two) {
      const bool whole = (r + rows - 1) * cols < safe;
      plane_pairs_block<T, ker, even_first>(t, copy, w, bias, to, rows, whole ? two : cols);
      continue;
    }
    int64_t q = 0;
    for (; q + two <= cols; q += two)
      plane_pairs_block<T, ker, even_first>(t, copy + q / 2, w, bias, to + q, rows, two);
    if (q == cols) continue;
    if (cols % 2 == 0) q = cols - two;
    plane_pairs_block<T, ker, even_first>(t, copy + q / 2, w, bias, to + q, rows, cols - q);
  }
}

template <class T, int ker, bool even_first>
void plane_pairs_tile(const DepthwisePlanePairs<T>& t) {
  const int64_t planes = t.from.planes, out = t.rows * t.cols;
  copy_plane(t.from, 0);
  for (int64_t i = 0; i < planes; ++i) {
    if (i + 1 < planes) copy_plane(t.from, i + 1);
    plane_pairs_plane<T, ker, even_first>(t, t.from.copy[i % 2] + t.read, t.w + i * ker * ker,
                                          t.bias ? t.bias[i] : T{0}, t.y + i * out,
                                          (planes - i) * out - 2 * kLanes<T> + 1);
  }
}

}  // namespace
