// Filters of 3, 5 or 7 rows and columns over one plane (depthwise.h, DepthwiseTile).
//
//   4 rows of results at a time:  for columns in steps of one vector (3x3) or two:
//     acc[4][vectors] = start
//     3x3:  for input row i of (4 - 1) * step + ker:  for tap tw       (unrolled both)
//     else: for tap tw, a loop:  for input row i                       (unrolled, a seventh of the code)
//       load x once;  for r in 4 with th = i - r * step inside the filter: acc[r][:] += w[th][tw] * x
//   rows left over, one by one:  acc += w[th][tw] * x for the taps that are inside
//
// Input rows outside the image are skipped by a bit each, which the whole tile shares.
// Register budget, 16: 3x3 9 of the filter + 4 acc + 3 loaded; 5x5 and 7x7 8 acc + a column of the filter + 1. With 32
// registers, 3x3: 7 rows, since every load of a whole cache line at an odd place touches two.
// Loads per multiply-add, 3x3: 18/36; 5x5: 105/200; 7x7: 189/392; two can be done beside two multiply-adds.
// Stride 2 along the width: two loads are separated into even and odd columns, which are two taps, by one shuffle
// each within the halves of the vector; the results are brought into order once, before they are stored. 5x5 and 7x7
// load each column for itself: as many loads as with a filter broadcast from L1 for each use, and one loop.
// Vectors at the edge of the image are loaded under masks, which depend on the column alone. The last vector of a row
// and the last rows lie over those before them where they would not be whole, and are written twice with equal values;
// not so where results are added to those in y.
// Order of the sum, whatever the tile of a result: 3x3 th, then tw; 5x5 and 7x7 tw, then th. A row outside adds
// nothing. Tried and lost, with 16 registers: 7 rows of one vector (a broadcast from L1 for each multiply-add); the
// lanes of a stride of 2 in order at each load.
#pragma once

#include "planes.h"

namespace {

template <class T, int ker>
struct Filter {
  static constexpr bool kHeld = ker == 3;
  Vector<T> held[kHeld ? ker * ker : 1];
  const T* w;
  FASTCONV_INLINE void set(const T* from) {
    w = from;
    if constexpr (kHeld) {
#pragma GCC unroll 9
      for (int i = 0; i < ker * ker; ++i) held[i] = broadcast(from[i]);
    }
  }
  FASTCONV_INLINE Vector<T> at(int th, int tw) const {
    if constexpr (kHeld)
      return held[th * ker + tw];
    else
      return broadcast(w[th * ker + tw]);
  }
};

// The loads of results from q on: `step` vectors at every `per` columns.
template <class T>
[[gnu::noinline]] void column_masks(const DepthwiseTile<T>& t, int64_t q, int step, int loads, int per, Mask<T>* mask) {
  for (int i = 0; i < step * loads; ++i) {
    const int64_t first = q * step + t.column[i / step * per] + i % step * kLanes<T>;
    mask[i] = lanes_between<T>(-first, t.in_w - first);
  }
}

// What neighbouring results read in a row of x. For a step of 2, two loads hold two columns: 3x3 uses both, larger
// filters load each column for itself, which is one loop for all columns.
template <class T, int ker, int step, bool masked>
struct Columns {
  static constexpr int kPer = ker == 3 ? step : 1, kLoads = (ker + kPer - 1) / kPer;
  Mask<T> mask[masked ? step * kLoads : 1];
  FASTCONV_INLINE void at(const DepthwiseTile<T>& t, int64_t q) {
    if constexpr (masked) column_masks<T>(t, q, step, kLoads, kPer, mask);
  }
  FASTCONV_INLINE Vector<T> part(const T* x, int i) const {
    if constexpr (masked)
      return load_masked(x, mask[i]);
    else
      return load(x);
  }
  // Columns k * kPer and, if there are two, the next.
  template <int count>
  FASTCONV_INLINE void read(const T* x, int k, Vector<T> (&to)[count]) const {
    const Vector<T> a = part(x, step * k);
    to[0] = a;
    if constexpr (step == 2) {
      const Vector<T> b = part(x + kLanes<T>, step * k + 1);
      to[0] = even_lanes_near<T>(a, b);
      if constexpr (count == 2) to[1] = odd_lanes_near<T>(a, b);
    }
  }
};

template <class T, int step>
FASTCONV_INLINE Vector<T> in_order(Vector<T> v) {
  if constexpr (step == 2) v = lanes_in_order<T>(v);
  return v;
}

template <class T, int step_w, int rows, int vectors>
FASTCONV_INLINE void start_block(const DepthwiseTile<T>& t, const T* y, int count, Vector<T> (&acc)[rows][vectors]) {
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
      acc[r][v] = in_order<T, step_w>(bias + load_some(add + r * t.y_row + v * kLanes<T>, count));
}

template <class T, int step_w, int rows, int vectors>
FASTCONV_INLINE void finish_block(const DepthwiseTile<T>& t, T* y, int count, Vector<T> (&acc)[rows][vectors]) {
  if (t.activate)
#pragma GCC unroll 7
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) acc[r][v] = clamp<T>(acc[r][v], t.low, t.high);
  if (vectors > 1 || count == kLanes<T>) {
#pragma GCC unroll 7
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) store(y + r * t.y_row + v * kLanes<T>, in_order<T, step_w>(acc[r][v]));
  } else {
#pragma GCC unroll 7
    for (int r = 0; r < rows; ++r) store_some(y + r * t.y_row, in_order<T, step_w>(acc[r][0]), count);
  }
}

// `rows` rows of results; bit i of `inside`: row i of x that they read is not outside the image.
template <class T, int ker, int step_h, int step_w, int rows, int vectors, bool masked>
FASTCONV_INLINE void unrolled_block(const DepthwiseTile<T>& t, const Filter<T, ker>& filter,
                                    const Columns<T, ker, step_w, masked>& columns, uint32_t inside, const T* x, T* y,
                                    int count) {
  using C = Columns<T, ker, step_w, masked>;
  Vector<T> acc[rows][vectors];
  start_block<T, step_w>(t, y, count, acc);
  const int64_t next = t.tap_h * t.x_row;
  Vector<T> column[ker];  // of the filter, where it is not held as a whole
  // Row i of x at column tw of the filter and, with two taps, the next.
  const auto add = [&]<int taps>(int i, int tw, const T* from) __attribute__((always_inline)) {
    Vector<T> part[vectors][taps];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) columns.template read<taps>(from + v * step_w * kLanes<T>, tw / C::kPer, part[v]);
#pragma GCC unroll 2
    for (int s = 0; s < taps; ++s)
#pragma GCC unroll 7
      for (int r = 0; r < rows; ++r) {
        const int th = i - r * step_h;
        if (th < 0 || th >= ker) continue;
        const Vector<T> w = ker == 3 ? filter.at(th, tw + s) : column[th];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) acc[r][v] += part[v][s] * w;
      }
  };
  if constexpr (ker == 3) {
    const int64_t column0 = t.column[0], column1 = t.column[1], column2 = t.column[2];
#pragma GCC unroll 16
    for (int i = 0; i < (rows - 1) * step_h + ker; ++i, x += next)
      if (__builtin_expect(inside >> i & 1, 1)) {
        add.template operator()<C::kPer>(i, 0, x + column0);
        if constexpr (C::kPer == 1) add.template operator()<1>(i, 1, x + column1);
        add.template operator()<1>(i, 2, x + column2);
      }
  } else {
#pragma GCC unroll 1
    for (int tw = 0; tw < ker; ++tw) {
#pragma GCC unroll 7
      for (int th = 0; th < ker; ++th) column[th] = filter.at(th, tw);
      const T* from = x + t.column[tw];
#pragma GCC unroll 16
      for (int i = 0; i < (rows - 1) * step_h + ker; ++i, from += next)
        if (__builtin_expect(inside >> i & 1, 1)) add.template operator()<1>(i, tw, from);
    }
  }
  finish_block<T, step_w>(t, y, count, acc);
}

// One row of results: those rows of the filter that are inside.
template <class T, int ker, int step_w, bool masked>
FASTCONV_INLINE void row_block(const DepthwiseTile<T>& t, int64_t taps, const Columns<T, ker, step_w, masked>& columns,
                               const T* w, const T* x, T* y, int count) {
  using C = Columns<T, ker, step_w, masked>;
  Vector<T> acc[1][1];
  start_block<T, step_w>(t, y, count, acc);
  const int64_t next = t.tap_h * t.x_row;
  const auto add = [&]<int together>(int64_t th, int tw) __attribute__((always_inline)) {
    Vector<T> part[together];
    columns.template read<together>(x + th * next + t.column[tw], tw / C::kPer, part);
    const T* const weight = w + th * ker + tw;
    acc[0][0] += part[0] * broadcast(weight[0]);
    if constexpr (together == 2) acc[0][0] += part[1] * broadcast(weight[1]);
  };
  if constexpr (ker == 3) {
    for (int64_t th = 0; th < taps; ++th) {
      add.template operator()<C::kPer>(th, 0);
      if constexpr (C::kPer == 1) add.template operator()<1>(th, 1);
      add.template operator()<1>(th, 2);
    }
  } else {
#pragma GCC unroll 1
    for (int tw = 0; tw < ker; ++tw)
      for (int64_t th = 0; th < taps; ++th) add.template operator()<1>(th, tw);
  }
  finish_block<T, step_w>(t, y, count, acc);
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
  static constexpr int kRows = ker == 3 && FASTCONV_VECTOR_BYTES == 64 ? 7 : 4, kVectors = ker == 3 ? 1 : 2;
  const DepthwiseTile<T>& t;
  Filter<T, ker> filter;
  int64_t inner0, inner1;  // whole vectors of results that begin there load inside the row
  int64_t last;            // where the last vector begins
  Columns<T, ker, step_w, true> left, right, other;

  FASTCONV_INLINE explicit Unrolled(const DepthwiseTile<T>& tile) : t(tile) {
    const int64_t least = t.column[0], most = t.column[ker - 1] + step_w * kLanes<T>;
    inner0 = least >= 0 ? 0 : (-least + step_w - 1) / step_w;
    inner1 = most > t.in_w ? 0 : (t.in_w - most) / step_w + 1;
    const bool overlap = t.cols >= kLanes<T> && t.add != t.y;
    last = overlap ? t.cols - kLanes<T> : (t.cols - 1) / kLanes<T> * kLanes<T>;
    if constexpr (kMaskedLoads) {
      if (inner0 > 0) left.at(t, 0);
      if (last >= inner1) right.at(t, last);
    }
    filter.set(t.w);
  }

  template <class F, class G>
  FASTCONV_INLINE void columns(const F& inner, const G& edge) {
    int64_t q = 0;
    while (true) {
      if (q > last) q = last;
      const int count = t.cols - q < kLanes<T> ? (int)(t.cols - q) : kLanes<T>;
      if (!kMaskedLoads || (q >= inner0 && q < inner1)) {
        const int64_t end = inner1 < last ? inner1 : last;
        q = inner(q, end, count);
      } else {
        const Columns<T, ker, step_w, true>* masks = q == 0 ? &left : &right;
        if (q != 0 && q != last) {
          other.at(t, q);
          masks = &other;
        }
        edge(q, count, *masks);
        q += kLanes<T>;
      }
      if (q >= last + kLanes<T>) return;
    }
  }

  FASTCONV_INLINE void rows(int64_t r) {
    T* const y = t.y + r * t.y_row;
    const T* const x = t.x + (t.first_h + r * t.step_h) * t.x_row;
    const uint32_t bits = rows_inside(t, t.first_h + r * t.step_h, (kRows - 1) * step_h + ker);
    const Columns<T, ker, step_w, false> whole{};
    columns(
        [&](int64_t q, int64_t end, int count) __attribute__((always_inline)) {
          const int64_t first = q;
          if constexpr (kVectors > 1)
            for (; q + (kVectors - 1) * kLanes<T> < end; q += kVectors * kLanes<T>)
              unrolled_block<T, ker, step_h, step_w, kRows, kVectors>(t, filter, whole, bits, x + q * step_w, y + q,
                                                                      kLanes<T>);
          // `count` is that of the first column: the last vector has one of its own.
          if (q >= end && q > first) return q;
          do {
            unrolled_block<T, ker, step_h, step_w, kRows, 1>(t, filter, whole, bits, x + q * step_w, y + q, count);
            q += kLanes<T>;
          } while (q < end);
          return q;
        },
        [&](int64_t q, int count, const Columns<T, ker, step_w, true>& masks) __attribute__((always_inline)) {
          unrolled_block<T, ker, step_h, step_w, kRows, 1>(t, filter, masks, bits, x + q * step_w, y + q, count);
        });
  }

  FASTCONV_INLINE void row(int64_t r) {
    const int64_t row = t.first_h + r * t.step_h;
    const uint32_t bits = rows_inside(t, row, ker);
    const int th = bits ? __builtin_ctz(bits) : 0, taps = __builtin_popcount(bits);
    T* const y = t.y + r * t.y_row;
    const T* const x = t.x + (row + th * t.tap_h) * t.x_row;
    const T* const w = t.w + th * ker;
    const Columns<T, ker, step_w, false> whole{};
    columns(
        [&](int64_t q, int64_t end, int count) __attribute__((always_inline)) {
          do {
            row_block<T, ker, step_w>(t, taps, whole, w, x + q * step_w, y + q, count);
            q += kLanes<T>;
          } while (q < end);
          return q;
        },
        [&](int64_t q, int count, const Columns<T, ker, step_w, true>& masks) __attribute__((always_inline)) {
          row_block<T, ker, step_w>(t, taps, masks, w, x + q * step_w, y + q, count);
        });
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
