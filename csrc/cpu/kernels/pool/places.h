// Planes of pool.h with indices: like planes.h, with the flat index of each maximum in a second vector.
//
//   down the rows, in order:  take = v > acc or v is NaN                          the first of equals stays
//   along the columns:        take = ... or (v == acc and its index is smaller)   order within the plane decides
// Neutral elements carry the largest index, so that they lose against a real -inf.
// Registers: value and index, twice each, three comparisons: 8 of 16.
// Between columns the index of a NaN is not that of the last one: the caller puts that right.
#pragma once

#include "planes.h"

namespace {

template <class T>
struct Placed {
  Vector<T> value;
  Ints<T> place;
};

template <class T>
constexpr Place<T> kNowhere = sizeof(T) == 4 ? INT32_MAX : static_cast<Place<T>>(INT64_MAX);

// `v` comes later in the plane.
template <class T>
FASTCONV_INLINE void take_later(Placed<T>& acc, const Placed<T>& v) {
  const Ints<T> take = (v.value > acc.value) | (v.value != v.value);
  acc.value = take ? v.value : acc.value;
  acc.place = take ? v.place : acc.place;
}

template <class T>
FASTCONV_INLINE void take_larger(Placed<T>& acc, const Placed<T>& v) {
  const Ints<T> take = (v.value > acc.value) | (v.value != v.value) | ((v.value == acc.value) & (v.place < acc.place));
  acc.value = take ? v.value : acc.value;
  acc.place = take ? v.place : acc.place;
}

template <int fixed, class T>
FASTCONV_INLINE Placed<T> place_column(const T* x, Place<T> first, const Rows& r) {
  const Ints<T> lane = lane_numbers<T>();
  Placed<T> acc{load(x), lane + first};
  if constexpr (fixed > 0) {
#pragma GCC unroll 3
    for (int t = 1; t < fixed; ++t)
      take_later<T>(acc, {load(x + t * r.step_h), lane + static_cast<Place<T>>(first + t * r.step_h)});
  } else {
    for (int64_t td = 0; td < r.taps_d; ++td)
      for (int64_t th = td == 0; th < r.taps_h; ++th) {
        const int64_t from = td * r.step_d + th * r.step_h;
        take_later<T>(acc, {load(x + from), lane + static_cast<Place<T>>(first + from)});
      }
  }
  return acc;
}

template <int fixed, class T>
FASTCONV_INLINE void place_rows(const PoolPlanes<T>& p, const T* x, const Rows& r, T* row, Place<T>* place) {
  constexpr int lanes = kLanes<T>;
  const Place<T> first = static_cast<Place<T>>(x - p.x);
  const int64_t full = p.in_w / lanes * lanes, tail = p.in_w - full;
  for (int64_t v = 0; v < full; v += lanes) {
    const Placed<T> acc = place_column<fixed>(x + v, static_cast<Place<T>>(first + v), r);
    store(row + v, acc.value);
    store_places<T>(place + v, acc.place);
  }
  if (tail == 0) return;
  // The rows at the very end of x are copied to where a whole vector can be read.
  const int64_t span = (r.taps_d - 1) * r.step_d + (r.taps_h - 1) * r.step_h;
  if (x + span + full + lanes <= p.x_end) {
    const Placed<T> acc = place_column<fixed>(x + full, static_cast<Place<T>>(first + full), r);
    store(row + full, keep_first<T>(acc.value, tail, broadcast(Max::neutral<T>)));
    store_places<T>(place + full, keep_first<T>(acc.place, tail, Ints<T>{} + kNowhere<T>));
    return;
  }
  for (int64_t v = full; v < p.in_w; ++v) {
    T value = x[v];
    int64_t at = 0;
    for (int64_t td = 0; td < r.taps_d; ++td)
      for (int64_t th = td == 0; th < r.taps_h; ++th) {
        const int64_t from = td * r.step_d + th * r.step_h;
        const T other = x[v + from];
        if (other > value || other != other) value = other, at = from;
      }
    row[v] = value;
    place[v] = static_cast<Place<T>>(first + v + at);
  }
}

template <int stride, int fixed, class T>
FASTCONV_INLINE Placed<T> place_columns(const T* row, const Place<T>* place, int64_t kernel, int64_t step) {
  constexpr int lanes = kLanes<T>;
  const auto tap = [&](int64_t at) -> Placed<T> {
    return {every<stride, T>([&](int i) { return load(row + at + i * lanes); }),
            every<stride, T>([&](int i) { return load_places<T>(place + at + i * lanes); })};
  };
  Placed<T> acc = tap(0);
  const int64_t taps = fixed ? fixed : kernel;
#pragma GCC unroll 3
  for (int64_t t = 1; t < taps; ++t) take_larger<T>(acc, tap(t * step));
  return acc;
}

template <int stride, int fixed, class T>
FASTCONV_INLINE Ints<T> finish_places(const PoolPlanes<T>& p, const T* row, const Place<T>* place, T* y,
                                      int64_t* index) {
  const int64_t step = fixed ? 1 : p.step_w;
  Ints<T> nan = {};
  for (int64_t q = p.col_begin; q < p.col_end; q += kLanes<T>) {
    const Placed<T> v = place_columns<stride, fixed>(row + q * stride, place + q * stride, p.kernel, step);
    store_until(y + q, p.y_end, v.value);
    store_index<T>(index + q, p.y_end - (y + q), v.place);
    nan |= v.value != v.value;
  }
  return nan;
}

template <class T>
FASTCONV_INLINE Ints<T> finish_place_windows(const PoolPlanes<T>& p, const T* row, const Place<T>* places, T* y,
                                             int64_t* index) {
  Ints<T> nan = {};
  for (int64_t q = p.col_begin; q < p.col_end; ++q) {
    const Window& w = p.w[q];
    T value = Max::neutral<T>;
    Place<T> at = kNowhere<T>;
    for (int64_t t = 0; t < w.taps; ++t) {
      const T other = row[w.first + t * p.step_w];
      const Place<T> place = places[w.first + t * p.step_w];
      if (other > value || other != other || (other == value && place < at)) value = other, at = place;
    }
    y[q] = value;
    index[q] = at;
    nan[0] |= value != value;
  }
  return nan;
}

// Returns whether a NaN was seen.
template <int stride, int fixed, class T>
bool place_batches(const PoolPlanes<T>& p) {
  Ints<T> nan = {};
  for_batches(
      p,
      [&](const T* x, const Rows& rows, int64_t at) {
        if (rows.taps_d == 1 && rows.taps_h == 3)
          place_rows<3>(p, x, rows, p.rows + at, p.places + at);
        else if (rows.taps_d == 1 && rows.taps_h == 2)
          place_rows<2>(p, x, rows, p.rows + at, p.places + at);
        else
          place_rows<0>(p, x, rows, p.rows + at, p.places + at);
      },
      [&](int64_t at, int64_t result, const Window&, const Window&) {
        if constexpr (stride == 0)
          nan |= finish_place_windows(p, p.rows + at, p.places + at, p.y + result, p.index + result);
        else
          nan |= finish_places<stride, fixed>(p, p.rows + at, p.places + at, p.y + result, p.index + result);
      });
  bool seen = false;
  for (int i = 0; i < kLanes<T>; ++i) seen |= nan[i] != 0;
  return seen;
}

template <class T>
bool max_planes(const PoolPlanes<T>& p) {
  if (p.index)
    return with_columns(p, [&](auto stride, auto fixed) { return place_batches<stride.get, fixed.get>(p); });
  pool_planes<Max>(p);
  return false;
}

}  // namespace
