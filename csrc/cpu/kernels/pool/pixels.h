// Pixels of pool.h: channels along the vector, the taps of a window in the order of the plane.
//
//   for ow: for blocks of channels:
//     acc = first tap;  for td, th, tw: join acc with x[tap][block]
//     y[ow][block] = acc, divided by the divisor for an average
// Up to 4 vectors of channels at a time (2 with indices), so that the loop over the taps is paid once for them: 4
// accumulators, a load each and the maximum's temporaries, 12 of 16 registers.
// The last vector of a pixel reaches into the next one, which is written later; where that would be behind the end
// of an array the channels go one by one.
#pragma once

#include "lanes.h"

namespace {

template <class F>
FASTCONV_INLINE void for_taps(const Window& d, const Window& h, const Window& w, int64_t step_d, int64_t step_h,
                              int64_t step_w, const F& f) {
  for (int64_t td = 0; td < d.taps; ++td)
    for (int64_t th = 0; th < h.taps; ++th)
      for (int64_t tw = 0; tw < w.taps; ++tw) f(td * step_d + th * step_h + tw * step_w);
}

template <class T, class F>
FASTCONV_INLINE void for_pixel_taps(const PoolPixels<T>& p, const Window& w, int64_t unit, const F& f) {
  for_taps(p.d, p.h, w, p.step_d * p.in_h * p.in_w * unit, p.step_h * p.in_w * unit, p.step_w * unit, f);
}

template <class Op, int vectors, class T>
FASTCONV_INLINE void pool_block(const PoolPixels<T>& p, const Window& w, const T* x, T* y, T divisor) {
  constexpr bool average = Op::template neutral<T> == T{0};
  Vector<T> acc[vectors];
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) acc[v] = broadcast(Op::template neutral<T>);
  for_pixel_taps(p, w, p.channels, [&](int64_t at) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) acc[v] = Op::template join<T>(acc[v], load(x + at + v * kLanes<T>));
  });
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    if constexpr (average) acc[v] /= broadcast(divisor);
    store(y + v * kLanes<T>, acc[v]);
  }
}

// What the pixels a little further on read first, in the last two rows under the window.
template <class T>
FASTCONV_INLINE void fetch_pixels(const PoolPixels<T>& p, const T* x, int64_t q) {
  if (q + 1 == p.out_w) return;
  const int64_t row = p.step_h * p.in_w * p.channels, span = (p.w[q + 1].first - p.w[q].first) * p.channels;
  const T* const last = x + p.step_d * p.in_h * p.in_w * p.channels * (p.d.taps - 1) + row * (p.h.taps - 1);
  for (int64_t c = 0; c < span; c += 64 / static_cast<int64_t>(sizeof(T))) {
    prefetch(last + c);
    if (p.h.taps > 1) prefetch(last + c - row);
  }
}

// Offset of the last element that a window reads, from its first tap on.
template <class T>
FASTCONV_INLINE int64_t last_tap(const PoolPixels<T>& p, const Window& w) {
  const int64_t row = p.step_h * p.in_w * (p.h.taps - 1), slice = p.step_d * p.in_h * p.in_w * (p.d.taps - 1);
  return (slice + row + p.step_w * (w.taps - 1)) * p.channels;
}

template <class Op, class T>
void pool_pixels(const PoolPixels<T> p) {
  constexpr int lanes = kLanes<T>;
  constexpr bool average = Op::template neutral<T> == T{0};
  for (int64_t q = 0; q < p.out_w; ++q) {
    const Window& w = p.w[q];
    const T* const x = p.x + ((p.d.first * p.in_h + p.h.first) * p.in_w + w.first) * p.channels;
    T* const y = p.y + q * p.channels;
    const T divisor = average ? p.divisor * p.extents[q] : T{1};
    fetch_pixels(p, x, q);
    const int64_t reach = last_tap(p, w) + lanes;
    int64_t c = 0;
    for (; c + 4 * lanes <= p.channels; c += 4 * lanes) pool_block<Op, 4>(p, w, x + c, y + c, divisor);
    for (; c < p.channels && (c + lanes <= p.channels || x + c + reach <= p.x_end); c += lanes)
      pool_block<Op, 1>(p, w, x + c, y + c, divisor);
    for (; c < p.channels; ++c) {
      T acc = Op::template neutral<T>;
      for_pixel_taps(p, w, p.channels, [&](int64_t at) { acc = Op::join_one(acc, x[at + c]); });
      y[c] = average ? acc / divisor : acc;
    }
  }
}

template <int vectors, class T>
FASTCONV_INLINE void place_block(const PoolPixels<T>& p, const Window& w, const T* x, Place<T> first, T* y,
                                 int64_t* index) {
  Vector<T> acc[vectors];
  Ints<T> place[vectors];
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    acc[v] = load(x + v * kLanes<T>);
    place[v] = Ints<T>{} + first;
  }
  int64_t pixel = first;
  for_pixel_taps(p, w, 1, [&](int64_t at) {
    const Ints<T> here = Ints<T>{} + static_cast<Place<T>>(pixel + at);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      const Vector<T> value = load(x + at * p.channels + v * kLanes<T>);
      const Ints<T> take = (value > acc[v]) | (value != value);
      acc[v] = take ? value : acc[v];
      place[v] = take ? here : place[v];
    }
  });
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    store_index<T>(index + v * kLanes<T>, place[v]);
    store(y + v * kLanes<T>, acc[v]);
  }
}

template <class T>
void place_pixels(const PoolPixels<T> p) {
  constexpr int lanes = kLanes<T>;
  for (int64_t q = 0; q < p.out_w; ++q) {
    const Window& w = p.w[q];
    const int64_t first = (p.d.first * p.in_h + p.h.first) * p.in_w + w.first;
    const T* const x = p.x + first * p.channels;
    T* const y = p.y + q * p.channels;
    int64_t* const index = p.index + q * p.channels;
    fetch_pixels(p, x, q);
    const int64_t reach = last_tap(p, w) + lanes;
    int64_t c = 0;
    for (; c + 2 * lanes <= p.channels; c += 2 * lanes)
      place_block<2>(p, w, x + c, static_cast<Place<T>>(first), y + c, index + c);
    for (; c < p.channels && (c + lanes <= p.channels || x + c + reach <= p.x_end); c += lanes)
      place_block<1>(p, w, x + c, static_cast<Place<T>>(first), y + c, index + c);
    for (; c < p.channels; ++c) {
      T acc = x[c];
      int64_t place = 0;
      for_pixel_taps(p, w, 1, [&](int64_t at) {
        const T value = x[at * p.channels + c];
        if (value > acc || value != value) acc = value, place = at;
      });
      y[c] = acc;
      index[c] = first + place;
    }
  }
}

// Runs f on the row of results, in `spare` where a vector would go beyond y_end.
template <class T, class F>
FASTCONV_INLINE void finish_in_place(const PoolPixels<T>& p, const F& f) {
  const int64_t count = p.out_w * p.channels;
  if (p.y + (count + kLanes<T>) <= p.y_end) return f(p);
  PoolPixels<T> aside = p;
  aside.y = p.spare;
  aside.index = p.index ? p.spare_index : nullptr;
  f(aside);
  for (int64_t i = 0; i < count; ++i) p.y[i] = p.spare[i];
  if (p.index)
    for (int64_t i = 0; i < count; ++i) p.index[i] = p.spare_index[i];
}

template <class T>
void max_pixels(const PoolPixels<T>& p) {
  finish_in_place(p, [](const PoolPixels<T>& row) { row.index ? place_pixels(row) : pool_pixels<Max>(row); });
}
template <class T>
void average_pixels(const PoolPixels<T>& p) {
  finish_in_place(p, [](const PoolPixels<T>& row) { pool_pixels<Sum>(row); });
}

}  // namespace
