// The straight loops of pool.h: whole planes into one number, and the rows that the average's gradient is made of.
//
//   contiguous:  four accumulators, so that four joins are under way; the rest of less than a vector is read with the
//                end of the array, lanes that were counted already being neutral
//   correlate:   one accumulator per vector of results; src is a padded row of the caller's, read whole vectors at a
//   time
#pragma once

#include "lanes.h"

namespace {

template <class Op, class T>
T join_contiguous(const T* x, int64_t count) {
  constexpr int lanes = kLanes<T>;
  const Vector<T> neutral = broadcast(Op::template neutral<T>);
  if (count < lanes) {
    T acc = Op::template neutral<T>;
    for (int64_t i = 0; i < count; ++i) acc = Op::join_one(acc, x[i]);
    return acc;
  }
  Vector<T> acc[4] = {neutral, neutral, neutral, neutral};
  int64_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes)
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) acc[v] = Op::template join<T>(acc[v], load(x + i + v * lanes));
  for (; i + lanes <= count; i += lanes) acc[0] = Op::template join<T>(acc[0], load(x + i));
  if (i < count)
    acc[1] = Op::template join<T>(acc[1], keep_first<T>(neutral, lanes - (count - i), load(x + count - lanes)));
  acc[0] = Op::template join<T>(acc[0], acc[1]);
  acc[2] = Op::template join<T>(acc[2], acc[3]);
  return join_lanes<Op, T>(Op::template join<T>(acc[0], acc[2]));
}

template <class T>
void add_row(T* dst, const T* src, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes<T> <= count; i += kLanes<T>) store(dst + i, load(dst + i) + load(src + i));
  for (; i < count; ++i) dst[i] += src[i];
}

template <class T>
void divide_row(T* dst, const T* src, const T* extents, T divisor, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes<T> <= count; i += kLanes<T>)
    store(dst + i, load(src + i) / (broadcast(divisor) * load(extents + i)));
  for (; i < count; ++i) dst[i] = src[i] / (divisor * extents[i]);
}

template <class T>
void correlate_row(T* dst, const T* src, int64_t count, int64_t taps) {
  for (int64_t i = 0; i < count; i += kLanes<T>) {
    Vector<T> acc = load(src + i);
    for (int64_t t = 1; t < taps; ++t) acc += load(src + i - t);
    store(dst + i, acc);
  }
}

template <class T>
void spread_pixel(T* dst, const T* g, int64_t taps, int64_t channels, T divisor) {
  int64_t c = 0;
  for (; c + kLanes<T> <= channels; c += kLanes<T>) {
    const Vector<T> share = load(g + c) / broadcast(divisor);
    for (T* at = dst + c; at < dst + taps * channels; at += channels) store(at, load(at) + share);
  }
  for (; c < channels; ++c)
    for (int64_t t = 0; t < taps; ++t) dst[t * channels + c] += g[c] / divisor;
}

}  // namespace
