// The maximum of planes without indices, once for every ISA.
//
//   for each batch of rows of results:  rows joined quickly, each element of x looked at once;  columns likewise
//                                       where there was a NaN, both once more with Max
// Both ways give the same bits where there is no NaN, so that it does not matter which batches are done again.
// Registers: four rows, the shared one, what was seen of NaN: 7 of 16.
// Tried and lost: asking for the rows ahead, as planes.h does; they follow each other in memory.
#pragma once

#include "planes.h"

namespace {

// Joins without a watch for NaN in the joins themselves: the rows of x are looked at as they are met.
//
//   results = 1: row = x0 .. x(taps - 1);  results = 2, taps = 3: the row below as well, which shares x1 and x2
//   seen: the rows that the window shares with those before it have been looked at
template <int taps, int results, bool seen, class T>
FASTCONV_INLINE void join_quickly(const Source<T>& from, const T* x, const Rows& r, T* row, int64_t pitch,
                                  Ints<T>& nan) {
  constexpr int lanes = kLanes<T>, line = kLine / (int)sizeof(T), count = taps + results - 1;
  constexpr int first_new = seen && count > 2 ? count - 2 : 0;
  const auto join = [&](int64_t v, auto keep) {
    Vector<T> in[count];
#pragma GCC unroll 4
    for (int t = 0; t < count; ++t) in[t] = load(x + v + t * r.step_h);
#pragma GCC unroll 4
    for (int t = first_new; t < count; t += 2) nan |= unordered<T>(in[t], in[t + 1 < count ? t + 1 : t]);
    if constexpr (results == 2) {
      const Vector<T> shared = QuickMax::join<T>(in[1], in[2]);
      store(row + v, keep(QuickMax::join<T>(in[0], shared)));
      store(row + pitch + v, keep(QuickMax::join<T>(shared, in[3])));
    } else {
      Vector<T> acc = in[0];
#pragma GCC unroll 3
      for (int t = 1; t < count; ++t) acc = QuickMax::join<T>(acc, in[t]);
      store(row + v, keep(acc));
    }
  };
  const auto all = [](Vector<T> v) { return v; };
  int64_t v = 0;
  for (; v + line <= from.full; v += line) {
#pragma GCC unroll 4
    for (int i = 0; i < line; i += lanes) join(v + i, all);
  }
  for (; v < from.full; v += lanes) join(v, all);
  if (from.full == from.in_w) return;
  if (from.whole(x + (results - 1) * r.step_h, r)) {
    const Vector<T> neutral = broadcast(Max::neutral<T>);
    join(v, [&](Vector<T> value) { return from.tail ? value : neutral; });
    return;
  }
#pragma GCC unroll 2
  for (int i = 0; i < results; ++i) {
    for (v = from.full; v < from.in_w; ++v) row[i * pitch + v] = join_column_one<Max>(x + i * r.step_h + v, r);
    const Vector<T> last = load(row + i * pitch + from.full);
    nan |= last != last;
  }
}

// join_batch() for QuickMax; returns whether there is a NaN: then the rows mean nothing. Two rows of results a row of x
// apart are joined together.
template <class T>
__attribute__((noinline)) bool join_batch_quickly(const PoolPlanes<T>& p, int64_t begin, int64_t end) {
  const Source<T> from(p);
  const int64_t pitch = p.pitch, out_h = p.out_h, in_h = p.in_h, in_w = p.in_w;
  const T* const plane = p.x;
  const Window *const ds = p.d, *const hs = p.h;
  const bool dense = p.step_h == 1;
  Rows rows{0, 0, p.step_d * in_h * in_w, p.step_h * in_w};
  Ints<T> nan = {};
  int64_t reached = 0;  // rows of x that the batch has read
  T* row = p.rows + p.pad;
  for (int64_t r = begin, od = begin / out_h, oh = begin % out_h; r < end;) {
    const Window &d = ds[od], &h = hs[oh];
    rows.taps_d = d.taps, rows.taps_h = h.taps;
    const int64_t top = d.first * in_h + h.first, seen = dense ? reached - top : 0;
    const T* const x = plane + top * in_w;
    int64_t done = 1;
    if (d.taps == 1 && h.taps == 3) {
      const bool two =
          dense && r + 1 < end && oh + 1 < out_h && hs[oh + 1].taps == 3 && hs[oh + 1].first == h.first + 1;
      if (two && seen >= 2)
        join_quickly<3, 2, true>(from, x, rows, row, pitch, nan);
      else if (two)
        join_quickly<3, 2, false>(from, x, rows, row, pitch, nan);
      else if (seen >= 1)
        join_quickly<3, 1, true>(from, x, rows, row, pitch, nan);
      else
        join_quickly<3, 1, false>(from, x, rows, row, pitch, nan);
      done += two;
    } else if (d.taps == 1 && h.taps == 2) {
      join_quickly<2, 1, false>(from, x, rows, row, pitch, nan);
    } else {
      join_one_row<Max>(from, x, rows, row);
      for (int64_t v = 0; v < in_w; v += kLanes<T>) {
        const Vector<T> joined = load(row + v);
        nan |= joined != joined;
      }
    }
    reached = d.taps > 0 && h.taps > 0 ? top + h.taps + done - 1 : 0;
    r += done, oh += done, row += done * pitch;
    if (oh == out_h) oh = 0, ++od, reached = 0;
  }
  bool any = false;
  for (int i = 0; i < kLanes<T>; ++i) any |= nan[i] != 0;
  return any;
}

// Batch by batch: quickly, and once more where there was a NaN.
template <class T>
void max_of_planes(const PoolPlanes<T>& planes) {
  PoolPlanes<T> p = planes;
  p.row_begin = pool_pairs<Max>(p);
  const auto quick =
      with_columns(p, [](auto stride, auto fixed) { return &finish_batch<QuickMax, stride.get, fixed.get, T>; });
  const auto careful =
      with_columns(p, [](auto stride, auto fixed) { return &finish_batch<Max, stride.get, fixed.get, T>; });
  bool nan = false;
  const auto join = [&nan](const PoolPlanes<T>& of, int64_t begin, int64_t end) {
    nan = join_batch_quickly(of, begin, end);
    if (nan) join_batch<Max>(of, begin, end);
  };
  for_batches(p, join, [&](const PoolPlanes<T>& of, const Results<T>& results, int64_t begin, int64_t end) {
    return (nan ? careful : quick)(of, results, begin, end);
  });
}

}  // namespace
