// Planes of pool.h without indices: the maximum and the average, once for every ISA.
//
//   for each row of results:
//     for v in vectors of in_w:    row[v] = x[first row][v] joined with the other taps_d * taps_h - 1 rows
//     for q in vectors of columns: y[q] = row[q * stride] joined with the other taps of the columns
// Joining rows first makes it taps_h + taps_w steps and not their product, and pads each row while it is in registers.
// Stride 2 takes the even and the odd lanes of two vectors: two neighbouring taps from two loads.
// Registers: an accumulator, two loaded vectors, the NaN-keeping maximum's three: 8 of 16.
// Kernels of 2 and 3 rows or columns, nearly all there are, are unrolled; the others loop.
#pragma once

#include "lanes.h"

namespace {

// The rows under one row of results.
struct Rows {
  int64_t taps_d, taps_h, step_d, step_h;  // steps in elements
};

template <class Op, int fixed, class T>
FASTCONV_INLINE Vector<T> join_column(const T* x, const Rows& r) {
  Vector<T> acc = load(x);
  if constexpr (fixed > 0) {
#pragma GCC unroll 3
    for (int t = 1; t < fixed; ++t) acc = Op::template join<T>(acc, load(x + t * r.step_h));
  } else {
    for (int64_t td = 0; td < r.taps_d; ++td)
      for (int64_t th = td == 0; th < r.taps_h; ++th) acc = Op::template join<T>(acc, load(x + td * r.step_d + th * r.step_h));
  }
  return acc;
}

template <class Op, class T>
FASTCONV_INLINE T join_column_one(const T* x, const Rows& r) {
  T acc = *x;
  for (int64_t td = 0; td < r.taps_d; ++td)
    for (int64_t th = td == 0; th < r.taps_h; ++th) acc = Op::join_one(acc, x[td * r.step_d + th * r.step_h]);
  return acc;
}

template <class Op, int fixed, class T>
FASTCONV_INLINE void join_rows(const PoolPlanes<T>& p, const T* x, const Rows& r) {
  constexpr int lanes = kLanes<T>;
  T* const row = p.row + p.pad;
  const int64_t full = p.in_w / lanes * lanes;
  for (int64_t v = 0; v < full; v += lanes) store(row + v, join_column<Op, fixed>(x + v, r));
  if (full == p.in_w) return;
  const T* const last = x + (r.taps_d - 1) * r.step_d + (r.taps_h - 1) * r.step_h + full;
  if (last + lanes <= p.x_end) {
    const Vector<T> neutral = broadcast(Op::template neutral<T>);
    store(row + full, keep_first<T>(join_column<Op, fixed>(x + full, r), p.in_w - full, neutral));
  } else {
    for (int64_t v = full; v < p.in_w; ++v) row[v] = join_column_one<Op>(x + v, r);
  }
}

// One vector of results from the reduced row; kernel and step are constants where fixed is not 0.
template <class Op, int stride, int fixed, class T>
FASTCONV_INLINE Vector<T> join_columns(const T* row, int64_t kernel, int64_t step) {
  constexpr int lanes = kLanes<T>;
  const int64_t taps = fixed ? fixed : kernel;
  if constexpr (stride == 1) {
    Vector<T> acc = load(row);
#pragma GCC unroll 3
    for (int64_t t = 1; t < taps; ++t) acc = Op::template join<T>(acc, load(row + t * step));
    return acc;
  } else {
    const auto even = [&](int64_t t) { return every_other<0, T>(load(row + t * step), load(row + t * step + lanes)); };
    Vector<T> acc = even(0);
    if constexpr (fixed > 1) {
      acc = Op::template join<T>(acc, every_other<1, T>(load(row), load(row + lanes)));
      if constexpr (fixed == 3) acc = Op::template join<T>(acc, even(2));
    } else {
      for (int64_t t = 1; t < taps; ++t) acc = Op::template join<T>(acc, even(t));
    }
    return acc;
  }
}

// The average's divisor of one row of results; 1 for the maximum, whose results are left as they are.
template <class Op, class T>
FASTCONV_INLINE T row_share(const PoolPlanes<T>& p, const Window& d, const Window& h) {
  if (p.divisor) return static_cast<T>(p.divisor);
  return static_cast<T>(p.count_pad ? d.extent * h.extent : d.taps * h.taps);
}

template <class Op, int stride, int fixed, class T>
FASTCONV_INLINE void finish_row(const PoolPlanes<T>& p, T* y, T share) {
  constexpr int lanes = kLanes<T>;
  constexpr bool average = Op::template neutral<T> == T{0};
  const int64_t step = fixed ? 1 : p.step_w;
  for (int64_t q = p.col_begin; q < p.col_end; q += lanes) {
    Vector<T> v = join_columns<Op, stride, fixed>(p.row + q * stride, p.kernel, step);
    if constexpr (average) v /= broadcast(share) * load(p.extents + q);
    store_until(y + q, p.y_end, v);
  }
}

template <class Op, class T>
T join_contiguous(const T* x, int64_t count);

// Windows one by one: adaptive ones, strides above 2, padding that dwarfs the input.
template <class Op, class T>
void finish_windows(const PoolPlanes<T>& p, T* y, T share) {
  constexpr bool average = Op::template neutral<T> == T{0};
  for (int64_t q = p.col_begin; q < p.col_end; ++q) {
    const Window& w = p.w[q];
    const T* const row = p.row + w.first;
    T acc = Op::template neutral<T>;
    if (p.step_w == 1 && w.taps >= 2 * kLanes<T>)
      acc = join_contiguous<Op>(row, w.taps);
    else
      for (int64_t t = 0; t < w.taps; ++t) acc = Op::join_one(acc, row[t * p.step_w]);
    y[q] = average ? acc / (share * p.extents[q]) : acc;
  }
}

template <class Op, int fixed, class T>
FASTCONV_INLINE void pool_row(const PoolPlanes<T>& p, T* y, T share) {
  if (p.stride == 1)
    finish_row<Op, 1, fixed>(p, y, share);
  else
    finish_row<Op, 2, fixed>(p, y, share);
}

template <class Op, class T>
void pool_planes(const PoolPlanes<T>& p) {
  const int fixed = p.step_w == 1 && (p.kernel == 2 || p.kernel == 3) ? static_cast<int>(p.kernel) : 0;
  int64_t od = p.row_begin / p.out_h, oh = p.row_begin % p.out_h;
  for (int64_t r = p.row_begin; r < p.row_end; ++r) {
    const Window &d = p.d[od], &h = p.h[oh];
    const T* const x = p.x + (d.first * p.in_h + h.first) * p.in_w;
    const Rows rows{d.taps, h.taps, p.step_d * p.in_h * p.in_w, p.step_h * p.in_w};
    T* const y = p.y + r * p.out_w;
    if (d.taps * h.taps == 0)
      for (int64_t v = 0; v < p.in_w; ++v) p.row[p.pad + v] = Op::template neutral<T>;
    else if (d.taps == 1 && h.taps == 3)
      join_rows<Op, 3>(p, x, rows);
    else if (d.taps == 1 && h.taps == 2)
      join_rows<Op, 2>(p, x, rows);
    else
      join_rows<Op, 0>(p, x, rows);
    const T share = row_share<Op>(p, d, h);
    if (p.stride == 0)
      finish_windows<Op>(p, y, share);
    else if (fixed == 3)
      pool_row<Op, 3>(p, y, share);
    else if (fixed == 2)
      pool_row<Op, 2>(p, y, share);
    else
      pool_row<Op, 0>(p, y, share);
    if (++oh == p.out_h) oh = 0, ++od;
  }
}

template <class T>
void average_planes(const PoolPlanes<T>& p) {
  pool_planes<Sum>(p);
}

}  // namespace
