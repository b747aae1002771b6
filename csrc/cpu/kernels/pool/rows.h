// The straight loops of pool.h: whole planes into one number, and the rows that the average's gradient is made of.
//
//   contiguous:  four accumulators, so that four joins are under way; the rest of less than a vector is read with the
//                end of the plane, lanes that were counted already being neutral
//   planes:      the vectors of `lanes` planes are transposed, and then joined in the order in which the lanes of one
//                are: a result does not depend on how many planes there were
//   correlate:   one accumulator per vector of results; src is a padded row of the caller's, read whole vectors at a
//   time
// Registers: `lanes` vectors and two for the transposition, 18 of 32 with AVX-512 and 10 of 16 with AVX2.
#pragma once

#include "lanes.h"

namespace {

// Max both ways round, joined with OR: no blend, which long chains wait for. -0 wins against +0.
struct EitherMax : Max {
  template <class T>
  static FASTCONV_INLINE Vector<T> join(Vector<T> a, Vector<T> b) {
    return (Vector<T>)((Ints<T>)(a > b ? a : b) | (Ints<T>)(b > a ? b : a));
  }
};

// All of x[0 .. count) joined into one vector; count is a vector at least.
template <class Op, class T>
FASTCONV_INLINE Vector<T> join_vectors(const T* x, int64_t count) {
  constexpr int lanes = kLanes<T>;
  const Vector<T> neutral = broadcast(Op::template neutral<T>);
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
  return Op::template join<T>(acc[0], acc[2]);
}

template <class Op, class T>
T join_contiguous(const T* x, int64_t count) {
  if (count >= kLanes<T>) return join_lanes<Op, T>(join_vectors<Op>(x, count));
  T acc = Op::template neutral<T>;
  for (int64_t i = 0; i < count; ++i) acc = Op::join_one(acc, x[i]);
  return acc;
}

template <class Op, class T>
void join_planes(T* y, const T* x, int64_t pixels, int64_t planes) {
  constexpr int lanes = kLanes<T>;
  int64_t plane = 0;
  if (pixels >= lanes)
    for (; plane + lanes <= planes; plane += lanes) {
      Vector<T> rows[lanes];
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) rows[i] = join_vectors<Op>(x + (plane + i) * pixels, pixels);
      transpose<T>(rows);
#pragma GCC unroll 4
      for (int h = lanes / 2; h > 0; h /= 2)
#pragma GCC unroll 8
        for (int i = 0; i < h; ++i) rows[i] = Op::template join<T>(rows[i], rows[i + h]);
      store(y + plane, rows[0]);
    }
  for (; plane < planes; ++plane) y[plane] = join_contiguous<Op>(x + plane * pixels, pixels);
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
