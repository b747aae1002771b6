// The gradient of a stride of 2 along the width (depthwise.h, DepthwisePairs): two phases side by side.
//
//   for row r: for columns in steps of one vector:
//     acc[2] = bias;  for side s: for its taps inside: acc[s] += w[s][th][tw] * x
//     the lanes of acc[0] and acc[1] alternate in the row that is stored
//
// Each side has about half of the filter's columns, so that the loops over the taps are short, and what counts is that
// results leave as whole vectors. Register budget: 2 acc + 2. The last vectors lie over those before them where they
// would not be whole. Vectors at the edge of the image are loaded under masks. Order of the sum: th, then tw.
#pragma once

#include "planes.h"

namespace {

using fastconv::DepthwisePairs;

template <int second, class V, int... l>
FASTCONV_INLINE V alternated(V a, V b, Indices<l...>) {
  constexpr int n = sizeof...(l);
  return __builtin_shufflevector(a, b, (second * n / 2 + l / 2 + l % 2 * n)...);
}

// Side s over the taps [th0, th1) of the row of x that tap 0 reads.
template <class T, bool masked>
FASTCONV_INLINE Vector<T> pairs_side(const DepthwisePairs<T>& t, int s, int64_t row, int64_t th0, int64_t th1,
                                     int64_t q) {
  const auto& side = t.side[s];
  const int64_t col = q + side.first_w;
  Vector<T> acc = broadcast(t.bias);
  for (int64_t th = th0; th < th1; ++th) {
    const T* const x = t.x + (row + th * t.tap_h) * t.x_row + col;
    for (int64_t tw = 0; tw < side.ker_w; ++tw) {
      const int64_t at = tw * t.tap_w;
      const Vector<T> w = broadcast(side.w[th * side.ker_w + tw]);
      if constexpr (masked)
        acc += load_masked(x + at, lanes_between<T>(-col - at, t.in_w - col - at)) * w;
      else
        acc += load(x + at) * w;
    }
  }
  return t.activate ? clamp<T>(acc, t.low, t.high) : acc;
}

template <class T, bool masked>
FASTCONV_INLINE void pairs_block(const DepthwisePairs<T>& t, int64_t row, int64_t th0, int64_t th1, int64_t q, T* y) {
  const Vector<T> a = pairs_side<T, masked>(t, 0, row, th0, th1, q);
  const Vector<T> b = pairs_side<T, masked>(t, 1, row, th0, th1, q);
  const Vector<T> parts[2] = {alternated<0>(a, b, typename MakeIndices<kLanes<T>>::type{}),
                              alternated<1>(a, b, typename MakeIndices<kLanes<T>>::type{})};
  for (int i = 0; i < 2; ++i) {
    const int64_t left = t.cols - 2 * q - i * kLanes<T>;
    if (left >= kLanes<T>)
      store(y + 2 * q + i * kLanes<T>, parts[i]);
    else if (left > 0)
      store_some(y + 2 * q + i * kLanes<T>, parts[i], (int)left);
  }
}

template <class T>
void pairs_tile(const DepthwisePairs<T>& t) {
  int64_t least = INT64_MAX, most = INT64_MIN;
  for (const auto& side : t.side) {
    const int64_t end = side.first_w + (side.ker_w - 1) * t.tap_w;
    least = side.first_w < least ? side.first_w : least;
    most = end > most ? end : most;
  }
  const int64_t pairs = (t.cols + 1) / 2;
  const int64_t last = t.cols % 2 == 0 && pairs >= kLanes<T> ? pairs - kLanes<T> : (pairs - 1) / kLanes<T> * kLanes<T>;
  for (int64_t r = 0; r < t.rows; ++r) {
    const int64_t row = t.first_h + r;
    int64_t th0 = 0, th1 = t.ker_h;
    while (th0 < th1 && (uint64_t)(row + th0 * t.tap_h) >= (uint64_t)t.in_h) ++th0;
    while (th1 > th0 && (uint64_t)(row + (th1 - 1) * t.tap_h) >= (uint64_t)t.in_h) --th1;
    T* const y = t.y + r * t.y_row;
    for (int64_t q = 0; q < pairs; q += kLanes<T>) {
      if (q > last) q = last;
      if (!kMaskedLoads || (q + least >= 0 && q + most + kLanes<T> <= t.in_w))
        pairs_block<T, false>(t, row, th0, th1, q, y);
      else
        pairs_block<T, kMaskedLoads>(t, row, th0, th1, q, y);
    }
  }
}

}  // namespace
