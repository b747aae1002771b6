// Planes of pool.h without indices: rows and columns joined, and the average; the maximum is in maximum.h.
//
//   for each batch of rows of results:
//     for each row of it:  for v in vectors of in_w:    row[v] = x[first row][v] joined with the window's other rows
//     for each row of it:  for q in vectors of columns: y[q] = row[q * stride] joined with the window's other columns
// Joining rows first makes it taps_h + taps_w steps and not their product, and pads each row while it is in registers.
// A batch, because a vector that overlaps two stores still under way must wait for both to reach the cache.
// A stride of 2 to 4 takes every stride-th lane of as many vectors. Windows of 2x2 a stride of 2 apart that do not
// reach beyond the input share nothing: they are joined in registers, without the row between. Registers: an
// accumulator, up to four loaded vectors, the NaN-keeping maximum's three: 8 of 16. Kernels of 2 and 3 rows or columns,
// nearly all there are, are unrolled; the others loop.
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
      for (int64_t th = td == 0; th < r.taps_h; ++th)
        acc = Op::template join<T>(acc, load(x + td * r.step_d + th * r.step_h));
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

// What a batch of rows reads, out of PoolPlanes: as values of their own, since a vector store may alias whatever a
// reference points to, and all of it would be read again after each one.
template <class T>
struct Source {
  const T* x_end;
  int64_t in_w, full;  // in whole vectors
  Ints<T> tail;        // lanes of the last vector that are inside
  explicit Source(const PoolPlanes<T>& p)
      : x_end(p.x_end),
        in_w(p.in_w),
        full(p.in_w / kLanes<T> * kLanes<T>),
        tail(lane_numbers<T>() < (Ints<T>{} + static_cast<Place<T>>(p.in_w % kLanes<T>))) {}
  // The rows that the next rows of results meet first: with a stride of 2 there are two of them.
  FASTCONV_INLINE void fetch(const T* x, const Rows& r) const {
    const int64_t last = (r.taps_d - 1) * r.step_d + (r.taps_h - 1) * r.step_h;
    prefetch(x + last);
    if (r.taps_h > 1) prefetch(x + last - r.step_h);
  }
  // Whether a whole vector may be read from the last row of the window.
  FASTCONV_INLINE bool whole(const T* x, const Rows& r) const {
    return x + (r.taps_d - 1) * r.step_d + (r.taps_h - 1) * r.step_h + full + kLanes<T> <= x_end;
  }
};

template <class Op, int fixed, class T>
FASTCONV_INLINE void join_rows(const Source<T>& from, const T* x, const Rows& r, T* row) {
  constexpr int lanes = kLanes<T>, line = kLine / (int)sizeof(T);
  int64_t v = 0;
  for (; v + line <= from.full; v += line) {
    from.fetch(x + v, r);
#pragma GCC unroll 4
    for (int i = 0; i < line; i += lanes) store(row + v + i, join_column<Op, fixed>(x + v + i, r));
  }
  for (; v < from.full; v += lanes) store(row + v, join_column<Op, fixed>(x + v, r));
  if (from.full == from.in_w) return;
  const Vector<T> neutral = broadcast(Op::template neutral<T>);
  if (from.whole(x, r))
    store(row + from.full, from.tail ? join_column<Op, fixed>(x + from.full, r) : neutral);
  else
    for (v = from.full; v < from.in_w; ++v) row[v] = join_column_one<Op>(x + v, r);
}

// f(x, the rows under it, number of the row of results from begin on) for rows [begin, end).
template <class T, class F>
FASTCONV_INLINE void for_rows(const PoolPlanes<T>& p, int64_t begin, int64_t end, const F& f) {
  const T* const x = p.x;
  const Window *const ds = p.d, *const hs = p.h;
  const int64_t out_h = p.out_h, in_h = p.in_h, in_w = p.in_w;
  Rows rows{0, 0, p.step_d * in_h * in_w, p.step_h * in_w};
  for (int64_t r = begin, od = begin / out_h, oh = begin % out_h; r < end; ++r) {
    const Window &d = ds[od], &h = hs[oh];
    rows.taps_d = d.taps, rows.taps_h = h.taps;
    f(x + (d.first * in_h + h.first) * in_w, rows, r - begin);
    if (++oh == out_h) oh = 0, ++od;
  }
}

template <class Op, class T>
FASTCONV_INLINE void join_one_row(const Source<T>& from, const T* x, const Rows& r, T* row) {
  if (r.taps_d * r.taps_h == 0)
    for (int64_t v = 0; v < from.in_w; ++v) row[v] = Op::template neutral<T>;
  else if (r.taps_d == 1 && r.taps_h == 3)
    join_rows<Op, 3>(from, x, r, row);
  else if (r.taps_d == 1 && r.taps_h == 2)
    join_rows<Op, 2>(from, x, r, row);
  else
    join_rows<Op, 0>(from, x, r, row);
}

template <class Op, class T>
__attribute__((noinline)) void join_batch(const PoolPlanes<T>& p, int64_t begin, int64_t end) {
  const Source<T> from(p);
  T* const first = p.rows + p.pad;
  const int64_t pitch = p.pitch;
  for_rows(p, begin, end,
           [&](const T* x, const Rows& r, int64_t i) { join_one_row<Op>(from, x, r, first + i * pitch); });
}

// Tap t of as many windows as a vector holds, for a stride of 2 not in order yet. Where the taps lie side by side two
// of them are the even and the odd lanes of the same vectors.
template <int stride, int fixed, class T>
FASTCONV_INLINE Vector<T> every_column(const T* row, int64_t t, int64_t step) {
  constexpr int lanes = kLanes<T>;
  using Lanes = typename MakeIndices<lanes>::type;
  if constexpr (stride != 2) {
    return every<stride, T>([&](int i) { return load(row + t * step + i * lanes); });
  } else if (fixed && t % 2) {
    return pick_second<1>(load(row + t - 1), load(row + t - 1 + lanes), Lanes{});
  } else {
    return pick_second<0>(load(row + t * step), load(row + t * step + lanes), Lanes{});
  }
}

// One vector of results from the reduced row; kernel and step are constants where fixed is not 0.
template <class Op, int stride, int fixed, class T>
FASTCONV_INLINE Vector<T> join_columns(const T* row, int64_t kernel, int64_t step) {
  constexpr int lanes = kLanes<T>;
  const int64_t taps = fixed ? fixed : kernel;
  const auto tap = [&](int64_t t) { return every_column<stride, fixed, T>(row, t, step); };
  Vector<T> acc = tap(0);
#pragma GCC unroll 3
  for (int64_t t = 1; t < taps; ++t) acc = Op::template join<T>(acc, tap(t));
  if constexpr (stride == 2) return in_order(acc, typename MakeIndices<lanes>::type{});
  return acc;
}

// The columns of a batch, out of PoolPlanes for the reason above.
template <class T>
struct Columns {
  const T* extents;
  const Window* w;
  int64_t begin, end, kernel, step;
  explicit Columns(const PoolPlanes<T>& p)
      : extents(p.extents), w(p.w), begin(p.col_begin), end(p.col_end), kernel(p.kernel), step(p.step_w) {}
};

// Where a batch's results go, and the row of the batch that they start from.
template <class T>
struct Results {
  T* y;
  int64_t* index;
  int64_t batch_row;
};

template <class Op, int stride, int fixed, class T>
FASTCONV_INLINE void finish_row(const Columns<T>& c, const T* row, T* y, T share) {
  constexpr bool average = Op::template neutral<T> == T{0};
  const int64_t step = fixed ? 1 : c.step;
  for (int64_t q = c.begin; q < c.end; q += kLanes<T>) {
    Vector<T> v = join_columns<Op, stride, fixed>(row + q * stride, c.kernel, step);
    if constexpr (average) v /= broadcast(share) * load(c.extents + q);
    store(y + q, v);
  }
}

template <class Op, class T>
T join_contiguous(const T* x, int64_t count);

// Windows one by one: adaptive ones, strides above 4, padding that dwarfs the input.
template <class Op, class T>
FASTCONV_INLINE void finish_windows(const Columns<T>& c, const T* row, T* y, T share) {
  constexpr bool average = Op::template neutral<T> == T{0};
  for (int64_t q = c.begin; q < c.end; ++q) {
    const Window& w = c.w[q];
    const T* const at = row + w.first;
    T acc = Op::template neutral<T>;
    if (c.step == 1 && w.taps >= 2 * kLanes<T>)
      acc = join_contiguous<Op>(at, w.taps);
    else
      for (int64_t t = 0; t < w.taps; ++t) acc = Op::join_one(acc, at[t * c.step]);
    y[q] = average ? acc / (share * c.extents[q]) : acc;
  }
}

template <class Op, int stride, int fixed, class T>
__attribute__((noinline)) bool finish_batch(const PoolPlanes<T>& p, const Results<T>& results, int64_t begin,
                                            int64_t end) {
  const Columns<T> columns(p);
  const T* row = p.rows + results.batch_row * p.pitch;
  T* y = results.y;
  const Window *const d = p.d, *const h = p.h;
  const int64_t out_h = p.out_h, out_w = p.out_w, pitch = p.pitch, divisor = p.divisor;
  const bool count_pad = p.count_pad;
  for (int64_t r = begin, od = begin / out_h, oh = begin % out_h; r < end; ++r, row += pitch, y += out_w) {
    T share{1};
    if constexpr (Op::template neutral<T> == T{0})
      share = static_cast<T>(divisor ? divisor : count_pad ? d[od].extent * h[oh].extent : d[od].taps * h[oh].taps);
    if constexpr (stride == 0)
      finish_windows<Op>(columns, row, y, share);
    else
      finish_row<Op, stride, fixed>(columns, row, y, share);
    if (++oh == out_h) oh = 0, ++od;
  }
  return false;
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

// join(p, begin, end) and finish(p, results, begin, end) for the rows of each batch; true if any finish returned true.
template <class T, class Join, class Finish>
FASTCONV_INLINE bool for_batches(const PoolPlanes<T>& p, const Join& join, const Finish& finish) {
  const int64_t cols = p.col_end - p.col_begin, reach = p.col_begin + (cols + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
  bool any = false;
  for (int64_t begin = p.row_begin; begin < p.row_end; begin += p.batch) {
    const int64_t end = begin + p.batch < p.row_end ? begin + p.batch : p.row_end;
    join(p, begin, end);
    int64_t whole = end;  // rows before it may write whole vectors
    while (whole > begin && p.y + (whole - 1) * p.out_w + reach > p.y_end) --whole;
    if (whole > begin)
      any |= finish(p, {p.y + begin * p.out_w, p.index ? p.index + begin * p.out_w : nullptr, 0}, begin, whole);
    for (int64_t r = whole; r < end; ++r) {
      any |= finish(p, {p.spare - p.col_begin, p.index ? p.spare_index - p.col_begin : nullptr, r - begin}, r, r + 1);
      const int64_t at = r * p.out_w + p.col_begin;
      for (int64_t i = 0; i < cols; ++i) p.y[at + i] = p.spare[i];
      if (p.index)
        for (int64_t i = 0; i < cols; ++i) p.index[at + i] = p.spare_index[i];
    }
  }
  return any;
}

// f(row, the upper of its two rows of x) for the rows from row_begin on whose windows are 2x2, a stride of 2 apart and
// all inside, as far as whole vectors may be read and written; returns the first row that was not done.
template <class T, class F>
FASTCONV_INLINE int64_t for_pairs(const PoolPlanes<T>& p, const F& f) {
  const bool pairs = p.stride == 2 && p.kernel == 2 && p.step_w == 1 && p.pad == 0 && 2 * p.out_w <= p.in_w;
  if (!pairs || p.out_h < p.row_end || p.d[0].taps != 1) return p.row_begin;
  const int64_t in_w = p.in_w, out_w = p.out_w, row_end = p.row_end;
  const int64_t reach = (p.col_end - p.col_begin + kLanes<T> - 1) / kLanes<T> * kLanes<T> + p.col_begin;
  const T* const x = p.x + p.d[0].first * p.in_h * in_w;
  const int64_t x_room = p.x_end - x - p.step_h * in_w - 2 * reach, y_room = p.y_end - p.y - reach;
  const Window* const h = p.h;
  int64_t r = p.row_begin;
  for (; r < row_end; ++r) {
    const int64_t top = h[r].first * in_w;
    if (h[r].taps != 2 || top > x_room || r * out_w > y_room) break;
    f(r, x + top);
  }
  return r;
}

template <class Op, class T>
__attribute__((noinline)) int64_t pool_pairs(const PoolPlanes<T>& p) {
  constexpr bool average = Op::template neutral<T> == T{0};
  constexpr int lanes = kLanes<T>;
  using Lanes = typename MakeIndices<lanes>::type;
  const Columns<T> c(p);
  const int64_t out_w = p.out_w, step = p.step_h * p.in_w, divisor = p.divisor;
  const bool count_pad = p.count_pad;
  const Window *const d = p.d, *const h = p.h;
  T* const results = p.y;
  return for_pairs(p, [&](int64_t r, const T* top) {
    T share{1};
    if constexpr (average) share = static_cast<T>(divisor ? divisor : count_pad ? d->extent * h[r].extent : 2);
    T* const y = results + r * out_w;
    for (int64_t q = c.begin; q < c.end; q += lanes) {
      const T* const at = top + 2 * q;
      prefetch(at);
      prefetch(at + step);
      const Vector<T> left = Op::template join<T>(load(at), load(at + step));
      const Vector<T> right = Op::template join<T>(load(at + lanes), load(at + step + lanes));
      const Vector<T> even = pick_second<0>(left, right, Lanes{}), odd = pick_second<1>(left, right, Lanes{});
      Vector<T> v = in_order(Op::template join<T>(even, odd), Lanes{});
      if constexpr (average) v /= broadcast(share) * load(c.extents + q);
      store(y + q, v);
    }
  });
}

template <class T>
void average_planes(const PoolPlanes<T>& planes) {
  PoolPlanes<T> p = planes;
  p.row_begin = pool_pairs<Sum>(p);
  for_batches(p, join_batch<Sum, T>,
              with_columns(p, [](auto stride, auto fixed) { return &finish_batch<Sum, stride.get, fixed.get, T>; }));
}

}  // namespace
