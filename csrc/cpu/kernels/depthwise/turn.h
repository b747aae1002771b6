// Planes to channels along the vector and back (depthwise.h, DepthwiseTurn).
//
//   in:   for row: for lanes elements of the planes:  a vector of each of `lanes` planes, transposed in registers,
//   stored out:  the same the other way
//
// Register budget: `lanes` vectors. The last elements are taken together with some of those before them, which are
// written twice with the same values; planes behind the last repeat it going in and are not written coming out.
#pragma once

#include "../../simd.h"
#include "depthwise.h"

namespace {

using fastconv::DepthwiseTurn;

template <class T>
FASTCONV_INLINE void turn_row_in(const DepthwiseTurn<T>& t, const T* planes, T* lanes_of_row) {
  constexpr int lanes = kLanes<T>;
  const int count = t.count < lanes ? (int)t.count : lanes;
  for (int64_t k = 0; k < t.count; k += lanes) {
    const int64_t at = k + lanes <= t.count || t.count < lanes ? k : t.count - lanes;
    Vector<T> block[lanes];
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) {
      const T* const from = planes + (i < t.channels ? i : t.channels - 1) * t.plane + at;
      block[i] = count == lanes ? load(from) : load_some(from, count);
    }
    transpose<T>(block);
    T* const to = lanes_of_row + at * lanes;
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i)
      if (i < count) store(to + i * lanes, block[i]);
  }
}

template <class T>
FASTCONV_INLINE void turn_row_out(const DepthwiseTurn<T>& t, T* planes, const T* lanes_of_row) {
  constexpr int lanes = kLanes<T>;
  const int count = t.count < lanes ? (int)t.count : lanes;
  for (int64_t k = 0; k < t.count; k += lanes) {
    const int64_t at = k + lanes <= t.count || t.count < lanes ? k : t.count - lanes;
    Vector<T> block[lanes];
    const T* const from = lanes_of_row + at * lanes;
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) block[i] = load(from + (i < count ? i : count - 1) * lanes);
    transpose<T>(block);
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) {
      if (i >= t.channels) continue;
      T* const to = planes + i * t.plane + at;
      if (count == lanes)
        store(to, block[i]);
      else
        store_some(to, block[i], count);
    }
  }
}

template <class T>
void turn_in(const DepthwiseTurn<T>& t) {
  for (int64_t r = 0; r < t.rows; ++r) turn_row_in(t, t.planes + r * t.planes_row, t.lanes + r * t.lanes_row);
}

template <class T>
void turn_out(const DepthwiseTurn<T>& t) {
  for (int64_t r = 0; r < t.rows; ++r) turn_row_out(t, t.planes + r * t.planes_row, t.lanes + r * t.lanes_row);
}

}  // namespace
