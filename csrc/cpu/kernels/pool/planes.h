// Planes of pool.h without indices: the maximum and the average, once for every ISA.
//
//   for each batch of rows of results:
//     for each row of it:  for v in vectors of in_w:    row[v] = x[first row][v] joined with the window's other rows
//     for each row of it:  for q in vectors of columns: y[q] = row[q * stride] joined with the window's other columns
// Joining rows first makes it taps_h + taps_w steps and not their product, and pads each row while it is in registers.
// A batch, because a vector that overlaps two stores still under way must wait for both to reach the cache.
// A stride of 2 to 4 takes every stride-th lane of as many vectors.
// Registers: an accumulator, up to four loaded vectors, the NaN-keeping maximum's three: 8 of 16.
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
FASTCONV_INLINE void join_rows(const PoolPlanes<T>& p, const T* x, const Rows& r, T* row) {
  constexpr int lanes = kLanes<T>;
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
  const auto tap = [&](int64_t at) { return every<stride, T>([&](int i) { return load(row + at + i * lanes); }); };
  Vector<T> acc = tap(0);
#pragma GCC unroll 3
  for (int64_t t = 1; t < taps; ++t) acc = Op::template join<T>(acc, tap(t * step));
  return acc;
}

// The average's divisor of one row of results; 1 for the maximum, whose results are left as they are.
template <class Op, class T>
FASTCONV_INLINE T row_share(const PoolPlanes<T>& p, const Window& d, const Window& h) {
  if (p.divisor) return static_cast<T>(p.divisor);
  return static_cast<T>(p.count_pad ? d.extent * h.extent : d.taps * h.taps);
}

template <class Op, int stride, int fixed, class T>
FASTCONV_INLINE void finish_row(const PoolPlanes<T>& p, const T* row, T* y, T share) {
  constexpr int lanes = kLanes<T>;
  constexpr bool average = Op::template neutral<T> == T{0};
  const int64_t step = fixed ? 1 : p.step_w;
  for (int64_t q = p.col_begin; q < p.col_end; q += lanes) {
    Vector<T> v = join_columns<Op, stride, fixed>(row + q * stride, p.kernel, step);
    if constexpr (average) v /= broadcast(share) * load(p.extents + q);
    store_until(y + q, p.y_end, v);
  }
}

template <class Op, class T>
T join_contiguous(const T* x, int64_t count);

// Windows one by one: adaptive ones, strides above 4, padding that dwarfs the input.
template <class Op, class T>
FASTCONV_INLINE void finish_windows(const PoolPlanes<T>& p, const T* row, T* y, T share) {
  constexpr bool average = Op::template neutral<T> == T{0};
  for (int64_t q = p.col_begin; q < p.col_end; ++q) {
    const Window& w = p.w[q];
    const T* const at = row + w.first;
    T acc = Op::template neutral<T>;
    if (p.step_w == 1 && w.taps >= 2 * kLanes<T>)
      acc = join_contiguous<Op>(at, w.taps);
    else
      for (int64_t t = 0; t < w.taps; ++t) acc = Op::join_one(acc, at[t * p.step_w]);
    y[q] = average ? acc / (share * p.extents[q]) : acc;
  }
}

// join(x, rows, window d, window h, number in the batch), then finish(number in the batch, result row, d, h), for each row.
template <class T, class Join, class Finish>
FASTCONV_INLINE void for_batches(const PoolPlanes<T>& p, const Join& join, const Finish& finish) {
  for (int64_t begin = p.row_begin; begin < p.row_end; begin += p.batch) {
    const int64_t end = begin + p.batch < p.row_end ? begin + p.batch : p.row_end;
    const int64_t first_od = begin / p.out_h, first_oh = begin % p.out_h;
    for (int64_t r = begin, od = first_od, oh = first_oh; r < end; ++r) {
      const Window &d = p.d[od], &h = p.h[oh];
      const Rows rows{d.taps, h.taps, p.step_d * p.in_h * p.in_w, p.step_h * p.in_w};
      join(p.x + (d.first * p.in_h + h.first) * p.in_w, rows, (r - begin) * p.pitch + p.pad);
      if (++oh == p.out_h) oh = 0, ++od;
    }
    for (int64_t r = begin, od = first_od, oh = first_oh; r < end; ++r) {
      finish((r - begin) * p.pitch, r * p.out_w, p.d[od], p.h[oh]);
      if (++oh == p.out_h) oh = 0, ++od;
    }
  }
}

template <class Op, int stride, int fixed, class T>
void pool_batches(const PoolPlanes<T>& p) {
  for_batches(
      p,
      [&](const T* x, const Rows& rows, int64_t at) {
        T* const row = p.rows + at;
        if (rows.taps_d * rows.taps_h == 0)
          for (int64_t v = 0; v < p.in_w; ++v) row[v] = Op::template neutral<T>;
        else if (rows.taps_d == 1 && rows.taps_h == 3)
          join_rows<Op, 3>(p, x, rows, row);
        else if (rows.taps_d == 1 && rows.taps_h == 2)
          join_rows<Op, 2>(p, x, rows, row);
        else
          join_rows<Op, 0>(p, x, rows, row);
      },
      [&](int64_t at, int64_t result, const Window& d, const Window& h) {
        const T share = row_share<Op>(p, d, h);
        if constexpr (stride == 0)
          finish_windows<Op>(p, p.rows + at, p.y + result, share);
        else
          finish_row<Op, stride, fixed>(p, p.rows + at, p.y + result, share);
      });
}

// f(stride, unrolled taps) with the two as types.
template <int value>
struct Constant {
  static constexpr int get = value;
};
template <class T, class F>
FASTCONV_INLINE auto with_columns(const PoolPlanes<T>& p, const F& f) {
  const bool dense = p.step_w == 1;
  if (p.stride == 1)
    return dense && p.kernel == 3   ? f(Constant<1>{}, Constant<3>{})
           : dense && p.kernel == 2 ? f(Constant<1>{}, Constant<2>{})
                                    : f(Constant<1>{}, Constant<0>{});
  if (p.stride == 2)
    return dense && p.kernel == 3   ? f(Constant<2>{}, Constant<3>{})
           : dense && p.kernel == 2 ? f(Constant<2>{}, Constant<2>{})
                                    : f(Constant<2>{}, Constant<0>{});
  return p.stride == 3   ? f(Constant<3>{}, Constant<0>{})
         : p.stride == 4 ? f(Constant<4>{}, Constant<0>{})
                         : f(Constant<0>{}, Constant<0>{});
}

template <class Op, class T>
void pool_planes(const PoolPlanes<T>& p) {
  with_columns(p, [&](auto stride, auto fixed) { pool_batches<Op, stride.get, fixed.get>(p); });
}

template <class T>
void average_planes(const PoolPlanes<T>& p) {
  pool_planes<Sum>(p);
}

}  // namespace
