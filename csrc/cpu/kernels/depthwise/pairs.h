// The gradient of a stride of 2 along the width (depthwise.h, DepthwisePairs): two phases side by side.
//
//   for row r: for columns in steps of one vector, or two inside:
//     acc[2] = bias;  for side s: for its taps inside: acc[s] += w[s][th][tw] * x
//     the lanes of acc[0] and acc[1] alternate in the row that is stored
//
// Each side has about half of the filter's columns, so that the loops over the taps are short, and what counts is that
// results leave as whole vectors. Register budget: 4 acc + 2. The last vectors lie over those before them where they
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

// Columns of a side whose masks are kept for the first and the last vector of the rows.
constexpr int kMaskedColumns = 8;

enum class PairLoads { whole, masks_kept, masks_made };

// `vectors` of side s over the taps [th0, th1) of the row of x that tap 0 reads.
template <class T, int vectors, PairLoads loads>
FASTCONV_INLINE void pairs_side(const DepthwisePairs<T>& t, int s, int64_t row, int64_t th0, int64_t th1, int64_t q,
                                const Mask<T>* mask, Vector<T> (&acc)[vectors]) {
  const auto& side = t.side[s];
  const int64_t col = q + side.first_w;
#pragma GCC unroll 2
  for (int v = 0; v < vectors; ++v) acc[v] = broadcast(t.bias);
  const T* x = t.x + (row + th0 * t.tap_h) * t.x_row + col;
  const T* w = side.w + th0 * side.ker_w;
  for (int64_t th = th0; th < th1; ++th, x += t.tap_h * t.x_row)
    for (int64_t tw = 0; tw < side.ker_w; ++tw, ++w) {
      const int64_t at = tw * t.tap_w;
      const Vector<T> weight = broadcast(*w);
      if constexpr (loads == PairLoads::masks_kept)
        acc[0] += load_masked(x + at, mask[tw]) * weight;
      else if constexpr (loads == PairLoads::masks_made)
        acc[0] += load_masked(x + at, lanes_between<T>(-col - at, t.in_w - col - at)) * weight;
      else
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) acc[v] += load(x + at + v * kLanes<T>) * weight;
    }
  if (t.activate)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) acc[v] = clamp<T>(acc[v], t.low, t.high);
}

template <class T, int vectors, PairLoads loads>
FASTCONV_INLINE void pairs_block(const DepthwisePairs<T>& t, int64_t row, int64_t th0, int64_t th1, int64_t q,
                                 Mask<T> (*masks)[kMaskedColumns], T* y) {
  Vector<T> a[vectors], b[vectors];
  pairs_side<T, vectors, loads>(t, 0, row, th0, th1, q, masks[0], a);
  pairs_side<T, vectors, loads>(t, 1, row, th0, th1, q, masks[1], b);
#pragma GCC unroll 2
  for (int v = 0; v < vectors; ++v) {
    const Vector<T> parts[2] = {alternated<0>(a[v], b[v], typename MakeIndices<kLanes<T>>::type{}),
                                alternated<1>(a[v], b[v], typename MakeIndices<kLanes<T>>::type{})};
    for (int i = 0; i < 2; ++i) {
      const int64_t from = 2 * (q + v * kLanes<T>)+i * kLanes<T>, left = t.cols - from;
      if (left >= kLanes<T>)
        store(y + from, parts[i]);
      else if (left > 0)
        store_some(y + from, parts[i], (int)left);
    }
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
  const auto inside = [&](int64_t q, int vectors) {
    return !kMaskedLoads || (q + least >= 0 && q + most + vectors * kLanes<T> <= t.in_w);
  };
  const bool kept = t.side[0].ker_w <= kMaskedColumns && t.side[1].ker_w <= kMaskedColumns;
  Mask<T> masks[2][2][kMaskedColumns];  // of the first and of the last vector, by side
  for (int end = 0; kept && end < 2; ++end)
    for (int s = 0; s < 2; ++s)
#pragma GCC unroll 1
      for (int64_t tw = 0; tw < t.side[s].ker_w; ++tw) {
        const int64_t col = (end ? last : 0) + t.side[s].first_w + tw * t.tap_w;
        masks[end][s][tw] = lanes_between<T>(-col, t.in_w - col);
      }
  for (int64_t r = 0; r < t.rows; ++r) {
    const int64_t row = t.first_h + r;
    int64_t th0 = 0, th1 = t.ker_h;
    while (th0 < th1 && (uint64_t)(row + th0 * t.tap_h) >= (uint64_t)t.in_h) ++th0;
    while (th1 > th0 && (uint64_t)(row + (th1 - 1) * t.tap_h) >= (uint64_t)t.in_h) --th1;
    T* const y = t.y + r * t.y_row;
    int64_t q = 0;
    while (q < last + kLanes<T>) {
      if (q + kLanes<T> <= last && inside(q, 2)) {
        pairs_block<T, 2, PairLoads::whole>(t, row, th0, th1, q, masks[0], y);
        q += 2 * kLanes<T>;
        continue;
      }
      if (q > last) q = last;
      if (inside(q, 1))
        pairs_block<T, 1, PairLoads::whole>(t, row, th0, th1, q, masks[0], y);
      else if (kept && (q == 0 || q == last))
        pairs_block<T, 1, PairLoads::masks_kept>(t, row, th0, th1, q, masks[q == last], y);
      else
        pairs_block<T, 1, PairLoads::masks_made>(t, row, th0, th1, q, masks[0], y);
      q += kLanes<T>;
    }
  }
}

}  // namespace
