// Filters of 3, 5 or 7 rows and columns over one plane (depthwise.h, DepthwiseTile).
//
//   4 rows of results at a time:  for columns in steps of two vectors:
//     acc[4][2] = start
//     for tap tw, a loop:  w[ker] = that column of the filter
//       for input row i of (4 - 1) * step + ker, unrolled:
//         load x once;  for r in 4 with th = i - r * step inside the filter: acc[r][:] += w[th] * x
//   rows left over, one by one:  acc += w[th][tw] * x for the taps that are inside
//
// Input rows outside the image are skipped by a bit each, which the whole tile shares. Vectors at the edge of the image
// are loaded under masks, which depend on the column alone; the first and the last of a row are the two of one block.
// The last vector of a row and the last rows lie over those before them where they would not be whole, and are written
// twice with equal values; not so where results are added to those in y.
// Register budget, 16: 8 acc + a column of the filter + 1. With 32 registers, 3x3: 7 rows, since every load of a whole
// cache line at an odd place touches two.
// Loads per multiply-add, 3x3: 45/72; 5x5: 105/200; 7x7: 189/392; two can be done beside two multiply-adds.
// Stride 2 along the width: two loads are separated into even and odd columns, which are two taps, by one shuffle
// each within the halves of the vector; the results are brought into order once, before they are stored. 3x3 takes the
// first two columns together; 5x5 and 7x7 load each for itself: as many loads as with a filter broadcast from L1 for
// each use, and one loop.
// Order of the sum, whatever the tile of a result: tw (a pair of them, 3x3 with stride 2), then th. A row outside adds
// nothing.
// Tried and lost: asking ahead for rows of y too, or for rows two blocks ahead. With 16 registers: 7 rows of one vector
// (a broadcast from L1 for each multiply-add); 3x3 with all of the filter held and one vector (4 sums in flight, and no
// register for a mask); taps unrolled (five times the code, and no column of the filter held); the lanes of a stride of
// 2 in order at each load.
#pragma once

#include "planes.h"

namespace {

// Columns that two loads hold, for a step of 2.
template <int ker, int step>
constexpr int kColumnsPerLoad = ker == 3 ? step : 1;

// Masks for the loads of a vector of results from q on: `step` for every kColumnsPerLoad columns.
template <class T, int ker, int step>
struct Masks {
  Mask<T> at[step * ker];
};

template <class T>
[[gnu::noinline]] void set_masks(const DepthwiseTile<T>& t, int64_t q, int step, int per, Mask<T>* mask) {
  for (int64_t tw = 0; tw < t.ker_w; tw += per)
    for (int s = 0; s < step; ++s, ++mask) {
      const int64_t first = q * step + t.column[tw] + s * kLanes<T>;
      *mask = lanes_between<T>(-first, t.in_w - first);
    }
}

template <class T, bool masked>
FASTCONV_INLINE Vector<T> part_of_row(const T* x, const Mask<T>* mask) {
  if constexpr (masked)
    return load_masked(x, *mask);
  else
    return load(x);
}

// What a vector of results reads at one column or, with two, at it and the next.
template <class T, int step, bool masked, int columns>
FASTCONV_INLINE void read_columns(const T* x, const Mask<T>* mask, Vector<T> (&to)[columns]) {
  const Vector<T> a = part_of_row<T, masked>(x, mask);
  to[0] = a;
  if constexpr (step == 2) {
    const Vector<T> b = part_of_row<T, masked>(x + kLanes<T>, mask + 1);
    to[0] = even_lanes_near<T>(a, b);
    if constexpr (columns == 2) to[1] = odd_lanes_near<T>(a, b);
  }
}

template <class T, int step>
FASTCONV_INLINE Vector<T> in_order(Vector<T> v) {
  if constexpr (step == 2) v = lanes_in_order<T>(v);
  return v;
}

// Vectors of results `apart` from each other; all are whole but the last, which has `count` lanes.
template <class T, int step_w, int rows, int vectors>
FASTCONV_INLINE void start_block(const DepthwiseTile<T>& t, const T* y, int64_t apart, int count,
                                 Vector<T> (&acc)[rows][vectors]) {
  const Vector<T> bias = broadcast(t.bias);
#pragma GCC unroll 7
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) acc[r][v] = bias;
  if (!t.add) return;
  const T* const add = t.add + (y - t.y);
#pragma GCC unroll 7
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v)
      acc[r][v] =
          in_order<T, step_w>(bias + load_some(add + r * t.y_row + v * apart, v + 1 < vectors ? kLanes<T> : count));
}

template <class T, int step_w, int rows, int vectors>
FASTCONV_INLINE void finish_block(const DepthwiseTile<T>& t, T* y, int64_t apart, int count,
                                  Vector<T> (&acc)[rows][vectors]) {
  if (t.activate)
#pragma GCC unroll 7
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) acc[r][v] = clamp<T>(acc[r][v], t.low, t.high);
  const int64_t y_row = t.y_row;
#pragma GCC unroll 7
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v + 1 < vectors; ++v) store(y + r * y_row + v * apart, in_order<T, step_w>(acc[r][v]));
  y += (vectors - 1) * apart;
  if (count == kLanes<T>) {
#pragma GCC unroll 7
    for (int r = 0; r < rows; ++r) store(y + r * y_row, in_order<T, step_w>(acc[r][vectors - 1]));
  } else {
#pragma GCC unroll 7
    for (int r = 0; r < rows; ++r) store_some(y + r * y_row, in_order<T, step_w>(acc[r][vectors - 1]), count);
  }
}

// `rows` rows of results. Bit i of `inside`: row i of x that they read is not outside the image.
template <class T, int ker, int step_h, int step_w, int rows, int vectors, bool masked>
FASTCONV_INLINE void unrolled_block(const DepthwiseTile<T>& t, const Mask<T>* const (&masks)[vectors], uint32_t inside,
                                    const T* x, T* y, int64_t apart, int count) {
  constexpr int per = kColumnsPerLoad<ker, step_w>;
  Vector<T> acc[rows][vectors];
  start_block<T, step_w>(t, y, apart, count, acc);
  const int64_t next = t.tap_h * t.x_row;
  const auto columns = [&]<int taps>(int tw) __attribute__((always_inline)) {
    Vector<T> w[taps][ker];
#pragma GCC unroll 2
    for (int s = 0; s < taps; ++s)
#pragma GCC unroll 7
      for (int th = 0; th < ker; ++th) w[s][th] = broadcast(t.w[th * ker + tw + s]);
    const T* from = x + t.column[tw];
    const int mask = tw / per * step_w;
#pragma GCC unroll 19
    for (int i = 0; i < (rows - 1) * step_h + ker; ++i, from += next) {
      if (__builtin_expect(!(inside >> i & 1), 0)) continue;
      Vector<T> part[vectors][taps];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v)
        read_columns<T, step_w, masked>(from + v * apart * step_w, masked ? masks[v] + mask : nullptr, part[v]);
#pragma GCC unroll 2
      for (int s = 0; s < taps; ++s)
#pragma GCC unroll 7
        for (int r = 0; r < rows; ++r) {
          const int th = i - r * step_h;
          if (th < 0 || th >= ker) continue;
#pragma GCC unroll 2
          for (int v = 0; v < vectors; ++v) acc[r][v] += part[v][s] * w[s][th];
        }
    }
  };
  if constexpr (per == 2) {
    columns.template operator()<2>(0);
    columns.template operator()<1>(2);
  } else {
#pragma GCC unroll 1
    for (int tw = 0; tw < ker; ++tw) columns.template operator()<1>(tw);
  }
  finish_block<T, step_w>(t, y, apart, count, acc);
}

// One row of results: rows [th, th + taps) of the filter are inside, x is that of the first.
template <class T, int ker, int step_w, bool masked>
FASTCONV_INLINE void row_block(const DepthwiseTile<T>& t, const Mask<T>* masks, int th, int taps, const T* x, T* y,
                               int count) {
  constexpr int per = kColumnsPerLoad<ker, step_w>;
  Vector<T> acc[1][1];
  start_block<T, step_w>(t, y, 0, count, acc);
  const auto columns = [&]<int together>(int tw) __attribute__((always_inline)) {
    const T* from = x + t.column[tw];
    const T* w = t.w + th * ker + tw;
    for (int i = 0; i < taps; ++i, from += t.tap_h * t.x_row, w += ker) {
      Vector<T> part[together];
      read_columns<T, step_w, masked>(from, masked ? masks + tw / per * step_w : nullptr, part);
      acc[0][0] += part[0] * broadcast(w[0]);
      if constexpr (together == 2) acc[0][0] += part[1] * broadcast(w[1]);
    }
  };
  if constexpr (per == 2) {
    columns.template operator()<2>(0);
    columns.template operator()<1>(2);
  } else {
#pragma GCC unroll 1
    for (int tw = 0; tw < ker; ++tw) columns.template operator()<1>(tw);
  }
  finish_block<T, step_w>(t, y, 0, count, acc);
}

// Bit i: row first + i * tap_h of x is inside the image.
template <class T>
[[gnu::noinline]] uint32_t some_rows_inside(const DepthwiseTile<T>& t, int64_t first, int count) {
  int begin = 0;
  while (begin < count && row_outside(t, first + begin * t.tap_h)) ++begin;
  int end = begin;
  while (end < count && !row_outside(t, first + end * t.tap_h)) ++end;
  return (1u << end) - (1u << begin);
}
template <class T>
FASTCONV_INLINE uint32_t rows_inside(const DepthwiseTile<T>& t, int64_t first, int count) {
  const bool all = first >= 0 && first + (count - 1) * t.tap_h < t.in_h;
  return all ? (1u << count) - 1 : some_rows_inside(t, first, count);
}

template <class T, int ker, int step_h, int step_w>
struct Unrolled {
  static constexpr int kRows = ker == 3 && FASTCONV_VECTOR_BYTES == 64 ? 7 : 4;
  // With 16 registers, the masks of two vectors are read from L1 at each use: for a stride of 2 that is too many loads.
  static constexpr bool kPairedEdges = step_w == 1 || ker == 3;
  const DepthwiseTile<T>& t;
  int64_t inner0, inner1;  // whole vectors of results that begin there load inside the row
  int64_t last;            // where the last vector begins
  int last_count;
  bool edges;  // the first vector or the last is not whole inside
  Masks<T, ker, step_w> left, right, other;
  int64_t other_at = -1;

  FASTCONV_INLINE explicit Unrolled(const DepthwiseTile<T>& tile) : t(tile) {
    const int64_t least = t.column[0], most = t.column[ker - 1] + step_w * kLanes<T>;
    inner0 = least >= 0 ? 0 : (-least + step_w - 1) / step_w;
    inner1 = most > t.in_w ? 0 : (t.in_w - most) / step_w + 1;
    const bool overlap = t.cols >= kLanes<T> && t.add != t.y;
    last = overlap ? t.cols - kLanes<T> : (t.cols - 1) / kLanes<T> * kLanes<T>;
    last_count = (int)(t.cols - last);
    edges = kMaskedLoads && (inner0 > 0 || last >= inner1);
    if (edges) {
      set(left, 0);
      if (last > 0) set(right, last);
    }
  }

  FASTCONV_INLINE void set(Masks<T, ker, step_w>& masks, int64_t q) {
    set_masks<T>(t, q, step_w, kColumnsPerLoad<ker, step_w>, masks.at);
  }
  FASTCONV_INLINE const Mask<T>* masks_at(int64_t q) {
    if (edges && q == 0) return left.at;
    if (edges && q == last) return right.at;
    if (kMaskedLoads && other_at != q) set(other, other_at = q);
    return other.at;
  }

  // The rows of x that the next rows of results read and these do not, or the next plane.
  FASTCONV_INLINE void ask(const T* x) const {
    const T* const end = x + kRows * t.step_h * t.x_row;
    for (; x < end; x += 64 / sizeof(T)) __builtin_prefetch(x);
  }

  FASTCONV_INLINE void rows(int64_t r) {
    T* const y = t.y + r * t.y_row;
    const T* const x = t.x + (t.first_h + r * t.step_h) * t.x_row;
    if (t.ahead) ask(x + (kRows * t.step_h + (ker - 1) * t.tap_h) * t.x_row);
    const uint32_t inside = rows_inside(t, t.first_h + r * t.step_h, (kRows - 1) * step_h + ker);
    int64_t q = 0, end = last + kLanes<T>, whole = t.cols - kLanes<T>;
    if (kPairedEdges && edges && last > 0) {
      unrolled_block<T, ker, step_h, step_w, kRows, 2, true>(t, {left.at, right.at}, inside, x, y, last, last_count);
      q = kLanes<T>, end = last, whole = last - 1;
    }
    while (q < end) {
      if (q + kLanes<T> <= whole && q >= inner0 && q + kLanes<T> < inner1) {
        unrolled_block<T, ker, step_h, step_w, kRows, 2, false>(t, {nullptr, nullptr}, inside, x + q * step_w, y + q,
                                                                kLanes<T>, kLanes<T>);
        q += 2 * kLanes<T>;
        continue;
      }
      if (q > last) q = last;
      unrolled_block<T, ker, step_h, step_w, kRows, 1, true>(t, {masks_at(q)}, inside, x + q * step_w, y + q, 0,
                                                             q == last ? last_count : kLanes<T>);
      q += kLanes<T>;
    }
  }

  FASTCONV_INLINE void row(int64_t r) {
    const int64_t first = t.first_h + r * t.step_h;
    const uint32_t inside = rows_inside(t, first, ker);
    const int th = inside ? __builtin_ctz(inside) : 0, taps = __builtin_popcount(inside);
    T* const y = t.y + r * t.y_row;
    const T* const x = t.x + (first + th * t.tap_h) * t.x_row;
    for (int64_t q = 0; q < last + kLanes<T>; q += kLanes<T>) {
      if (q > last) q = last;
      const int count = q == last ? last_count : kLanes<T>;
      if (q >= inner0 && q < inner1)
        row_block<T, ker, step_w, false>(t, nullptr, th, taps, x + q * step_w, y + q, count);
      else
        row_block<T, ker, step_w, true>(t, masks_at(q), th, taps, x + q * step_w, y + q, count);
    }
  }

  FASTCONV_INLINE void run() {
    const bool overlap = t.rows >= kRows && t.add != t.y;
    int64_t r = 0;
    while (r + kRows <= t.rows || (overlap && r < t.rows)) {
      rows(r + kRows <= t.rows ? r : t.rows - kRows);
      r += kRows;
    }
    for (; r < t.rows; ++r) row(r);
  }
};

template <class T, int ker, int step_h, int step_w>
void unrolled_tile(const DepthwiseTile<T>& t) {
  Unrolled<T, ker, step_h, step_w>(t).run();
}

}  // namespace
