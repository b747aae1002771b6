// Planes of pool.h with indices: like planes.h, with the flat index of each maximum in a second vector.
//
//   down the rows, in order:  take = v > acc or v is NaN                          the first of equals stays
//   along the columns:        take = ... or (v == acc and its index is smaller)   order within the plane decides
// Neutral elements carry the largest index, so that they lose against a real -inf.
// Registers: value and index, twice each, three comparisons: 8 of 16.
// Between columns the index of a NaN is not that of the last one: the caller puts that right.
#pragma once

#include "maximum.h"

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
FASTCONV_INLINE void place_rows(const Source<T>& from, const T* x, Place<T> first, const Rows& r, T* row,
                                Place<T>* place) {
  for (int64_t v = 0; v < from.full; v += kLanes<T>) {
    from.fetch(x + v, r);
    const Placed<T> acc = place_column<fixed>(x + v, static_cast<Place<T>>(first + v), r);
    store(row + v, acc.value);
    store_places<T>(place + v, acc.place);
  }
  if (from.full == from.in_w) return;
  if (from.whole(x, r)) {
    const Placed<T> acc = place_column<fixed>(x + from.full, static_cast<Place<T>>(first + from.full), r);
    store(row + from.full, from.tail ? acc.value : broadcast(Max::neutral<T>));
    store_places<T>(place + from.full, from.tail ? acc.place : Ints<T>{} + kNowhere<T>);
    return;
  }
  for (int64_t v = from.full; v < from.in_w; ++v) {
    T value = x[v];
    int64_t at = 0;
    for (int64_t td = 0; td < r.taps_d; ++td)
      for (int64_t th = td == 0; th < r.taps_h; ++th) {
        const T other = x[v + td * r.step_d + th * r.step_h];
        if (other > value || other != other) value = other, at = td * r.step_d + th * r.step_h;
      }
    row[v] = value;
    place[v] = static_cast<Place<T>>(first + v + at);
  }
}

template <class T>
__attribute__((noinline)) void place_batch(const PoolPlanes<T>& p, int64_t begin, int64_t end) {
  const Source<T> from(p);
  const T* const plane = p.x;
  T* const first_row = p.rows + p.pad;
  Place<T>* const first_place = p.places + p.pad;
  const int64_t pitch = p.pitch;
  for_rows(p, begin, end, [&](const T* x, const Rows& r, int64_t i) {
    T* const row = first_row + i * pitch;
    Place<T>* const place = first_place + i * pitch;
    const auto first = static_cast<Place<T>>(x - plane);
    if (r.taps_d == 1 && r.taps_h == 3)
      place_rows<3>(from, x, first, r, row, place);
    else if (r.taps_d == 1 && r.taps_h == 2)
      place_rows<2>(from, x, first, r, row, place);
    else
      place_rows<0>(from, x, first, r, row, place);
  });
}

template <int stride, int fixed, class T>
FASTCONV_INLINE Placed<T> place_columns(const T* row, const Place<T>* place, int64_t kernel, int64_t step) {
  constexpr int lanes = kLanes<T>;
  using Lanes = typename MakeIndices<lanes>::type;
  const auto tap = [&](int64_t t) -> Placed<T> {
    if constexpr (stride != 2)
      return {every_column<stride, fixed, T>(row, t, step),
              every<stride, T>([&](int i) { return load_places<T>(place + t * step + i * lanes); })};
    const int64_t at = fixed && t % 2 ? t - 1 : t * step;
    const Ints<T> low = load_places<T>(place + at), high = load_places<T>(place + at + lanes);
    return {every_column<stride, fixed, T>(row, t, step),
            fixed && t % 2 ? pick_second<1>(low, high, Lanes{}) : pick_second<0>(low, high, Lanes{})};
  };
  Placed<T> acc = tap(0);
  const int64_t taps = fixed ? fixed : kernel;
#pragma GCC unroll 3
  for (int64_t t = 1; t < taps; ++t) take_larger<T>(acc, tap(t));
  if constexpr (stride == 2) acc = {in_order(acc.value, Lanes{}), in_order(acc.place, Lanes{})};
  return acc;
}

template <int stride, int fixed, class T>
FASTCONV_INLINE Ints<T> finish_places(const Columns<T>& c, const T* row, const Place<T>* place, T* y, int64_t* index) {
  const int64_t step = fixed ? 1 : c.step;
  Ints<T> nan = {};
  for (int64_t q = c.begin; q < c.end; q += kLanes<T>) {
    const Placed<T> v = place_columns<stride, fixed>(row + q * stride, place + q * stride, c.kernel, step);
    store(y + q, v.value);
    store_index<T>(index + q, v.place);
    nan |= v.value != v.value;
  }
  return nan;
}

template <class T>
FASTCONV_INLINE bool finish_place_windows(const Columns<T>& c, const T* row, const Place<T>* places, T* y,
                                          int64_t* index) {
  bool nan = false;
  for (int64_t q = c.begin; q < c.end; ++q) {
    const Window& w = c.w[q];
    T value = Max::neutral<T>;
    Place<T> at = kNowhere<T>;
    for (int64_t t = 0; t < w.taps; ++t) {
      const T other = row[w.first + t * c.step];
      const Place<T> place = places[w.first + t * c.step];
      if (other > value || other != other || (other == value && place < at)) value = other, at = place;
    }
    y[q] = value;
    index[q] = at;
    nan |= value != value;
  }
  return nan;
}

// Returns whether a NaN was seen.
template <int stride, int fixed, class T>
__attribute__((noinline)) bool finish_place_batch(const PoolPlanes<T>& p, const Results<T>& results, int64_t begin,
                                                  int64_t end) {
  const Columns<T> columns(p);
  const int64_t pitch = p.pitch, out_w = p.out_w;
  const T* row = p.rows + results.batch_row * pitch;
  const Place<T>* place = p.places + results.batch_row * pitch;
  T* y = results.y;
  int64_t* index = results.index;
  Ints<T> nan = {};
  bool seen = false;
  for (int64_t r = begin; r < end; ++r, row += pitch, place += pitch, y += out_w, index += out_w) {
    if constexpr (stride == 0)
      seen |= finish_place_windows(columns, row, place, y, index);
    else
      nan |= finish_places<stride, fixed>(columns, row, place, y, index);
  }
  for (int i = 0; i < kLanes<T>; ++i) seen |= nan[i] != 0;
  return seen;
}

// pool_pairs() with indices; sets `seen` where there was a NaN.
template <class T>
__attribute__((noinline)) int64_t place_pairs(const PoolPlanes<T>& p, bool& seen) {
  constexpr int lanes = kLanes<T>;
  using Lanes = typename MakeIndices<lanes>::type;
  const Columns<T> c(p);
  const int64_t out_w = p.out_w, step = p.step_h * p.in_w;
  const T* const plane = p.x;
  T* const results = p.y;
  int64_t* const places = p.index;
  const Ints<T> lane = lane_numbers<T>();
  Ints<T> nan = {};
  const int64_t done = for_pairs(p, [&](int64_t r, const T* top) {
    T* const y = results + r * out_w;
    int64_t* const index = places + r * out_w;
    for (int64_t q = c.begin; q < c.end; q += lanes) {
      const T* const at = top + 2 * q;
      prefetch(at);
      prefetch(at + step);
      const auto down = [&](int64_t from) {
        Placed<T> acc{load(at + from), lane + static_cast<Place<T>>(at - plane + from)};
        take_later<T>(acc, {load(at + from + step), lane + static_cast<Place<T>>(at - plane + from + step)});
        return acc;
      };
      const Placed<T> left = down(0), right = down(lanes);
      Placed<T> acc{pick_second<0>(left.value, right.value, Lanes{}), pick_second<0>(left.place, right.place, Lanes{})};
      take_larger<T>(
          acc, {pick_second<1>(left.value, right.value, Lanes{}), pick_second<1>(left.place, right.place, Lanes{})});
      nan |= acc.value != acc.value;
      store(y + q, in_order(acc.value, Lanes{}));
      store_index<T>(index + q, in_order(acc.place, Lanes{}));
    }
  });
  for (int i = 0; i < lanes; ++i) seen |= nan[i] != 0;
  return done;
}

template <class T>
bool max_planes(const PoolPlanes<T>& planes) {
  if (!planes.index) {
    max_of_planes(planes);
    return false;
  }
  bool nan = false;
  PoolPlanes<T> p = planes;
  p.row_begin = place_pairs(p, nan);
  nan |= for_batches(p, place_batch<T>, with_columns(p, [](auto stride, auto fixed) {
                       return &finish_place_batch<stride.get, fixed.get, T>;
                     }));
  return nan;
}

}  // namespace
