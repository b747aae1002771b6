// What the tiles over planes share (tile.h, unrolled.h): how a result begins and ends, and
// every second column of a row.
#pragma once

#include "../../simd.h"
#include "depthwise.h"

namespace {

using fastconv::DepthwiseTile;

template <class T>
FASTCONV_INLINE Vector<T> start_of(const DepthwiseTile<T>& t, const T* y, int count) {
  const Vector<T> bias = broadcast(t.bias);
  return t.add ? bias + load_some(t.add + (y - t.y), count) : bias;
}

template <class T>
FASTCONV_INLINE void finish(const DepthwiseTile<T>& t, T* y, Vector<T> value, int count) {
  if (t.activate) value = clamp<T>(value, t.low, t.high);
  if (count == kLanes<T>)
    store(y, value);
  else
    store_some(y, value, count);
}

template <class T>
FASTCONV_INLINE bool row_outside(const DepthwiseTile<T>& t, int64_t row) {
  return (uint64_t)row >= (uint64_t)t.in_h;
}

// even_lanes and odd_lanes in an order that `lanes_in_order` undoes, which is its own inverse: with 32 bytes, what one
// shuffle within each half of the vector gives; otherwise nothing is out of order.
template <int odd, class V, int... l>
FASTCONV_INLINE V every_second_near(V a, V b, Indices<l...>) {
  constexpr int n = sizeof...(l), half = n / 2, part = n / 4;
  return __builtin_shufflevector(a, b, (l / half * half + l % half % part * 2 + odd + l % half / part * n)...);
}
template <int odd, class T>
FASTCONV_INLINE Vector<T> every_second_near(Vector<T> a, Vector<T> b) {
  if constexpr (FASTCONV_VECTOR_BYTES == 32)
    return every_second_near<odd>(a, b, typename MakeIndices<kLanes<T>>::type{});
  else
    return every_second<odd>(a, b, typename MakeIndices<kLanes<T>>::type{});
}
template <class T>
FASTCONV_INLINE Vector<T> even_lanes_near(Vector<T> a, Vector<T> b) {
  return every_second_near<0, T>(a, b);
}
template <class T>
FASTCONV_INLINE Vector<T> odd_lanes_near(Vector<T> a, Vector<T> b) {
  return every_second_near<1, T>(a, b);
}
template <class V, int... l>
FASTCONV_INLINE V middle_quarters_exchanged(V v, Indices<l...>) {
  constexpr int part = sizeof...(l) / 4;
  return __builtin_shufflevector(v, v, ((l / part == 1 ? 2 : l / part == 2 ? 1 : l / part) * part + l % part)...);
}
template <class T>
FASTCONV_INLINE Vector<T> lanes_in_order(Vector<T> v) {
  if constexpr (FASTCONV_VECTOR_BYTES == 32)
    return middle_quarters_exchanged(v, typename MakeIndices<kLanes<T>>::type{});
  else
    return v;
}

}  // namespace
