// Filters of 3, 5 or 7 rows and columns over one plane (depthwise.h, DepthwiseTile).
//
//   rows whose taps are all inside, 4 at a time:  for columns in steps of one vector (3x3) or two:
//     acc[4][vectors] = start
//     for input row i of (4 - 1) * step + ker:  for tap tw:  load x once
//       for r in 4 with th = i - r * step inside the filter: acc[r][:] += w[th][tw] * x
//   other rows one by one:  acc += w[th][tw] * x for the taps that are inside
//
// Register budget, 16: 3x3 9 of the filter + 4 acc + 3 loaded; 5x5 and 7x7, whose filters are broadcast from L1,
// 8 acc + 4 loaded + 1: a broadcast serves two vectors. With 32 registers, 3x3: 7 rows, since every load of a whole
// cache line at an odd place touches two.
// Loads per multiply-add, 3x3: 18/36; 5x5: 180/200; 7x7: 336/392; two can be done beside two multiply-adds.
// Stride 2 along the width: two loads are separated into even and odd columns, which are two taps, by one shuffle
// each within the halves of the vector; the results are brought into order once, before they are stored.
// Vectors at the edge of the image are loaded under masks, which depend on the column alone. The last vector of a row
// and the last rows lie over those before them where they would not be whole, and are written twice with equal values;
// not so where results are added to those in y.
// Order of the sum: th, then tw, for each result, whatever its tile. A row outside adds nothing.
// Tried and lost, with 16 registers: 7 rows of one vector (a broadcast from L1 for each multiply-add, and a branch for
// each row that may be outside); the lanes of a stride of 2 in order at each load.
#pragma once

#include "planes.h"

namespace {

template <class T, int ker>
struct Filter {
  static constexpr bool kHeld = ker == 3;
  Vector<T> held[kHeld ? ker * ker : 1];
  const T* w;
  FASTCONV_INLINE explicit Filter(const T* from) : w(from) {
    if constexpr (kHeld) {
#pragma GCC unroll 9
      for (int i = 0; i < ker * ker; ++i) held[i] = broadcast(from[i]);
    }
  }
  FASTCONV_INLINE Vector<T> at(int i) const {
    if constexpr (kHeld)
      return held[i];
    else
      return broadcast(w[i]);
  }
};

// What neighbouring results read in a row of x: for a step of 2 a pair of taps is what two loads hold.
template <class T, int ker, int step, bool masked>
struct Columns {
  static constexpr int kLoads = step == 1 ? ker : (ker + 1) / 2;
  Mask<T> mask[masked ? step * kLoads : 1];
  FASTCONV_INLINE void at(const DepthwiseTile<T>& t, int64_t q) {
    if constexpr (masked) {
#pragma GCC unroll 8
      for (int i = 0; i < step * kLoads; ++i) {
        const int64_t first = q * step + t.column[i / step * step] + i % step * kLanes<T>;
        mask[i] = lanes_between<T>(-first, t.in_w - first);
      }
    }
  }
  FASTCONV_INLINE Vector<T> part(const T* x, int i) const {
    if constexpr (masked)
      return load_masked(x, mask[i]);
    else
      return load(x);
  }
};

template <class T, int step>
FASTCONV_INLINE Vector<T> in_order(Vector<T> v) {
  if constexpr (step == 2) v = lanes_in_order<T>(v);
  return v;
}

template <class T, int ker, int step_h, int step_w, int rows, int vectors, bool masked>
FASTCONV_INLINE void unrolled_block(const DepthwiseTile<T>& t, const Filter<T, ker>& filter,
                                    const int64_t (&offset)[ker], const Columns<T, ker, step_w, masked>& columns,
                                    const T* x, T* y, int count) {
  using C = Columns<T, ker, step_w, masked>;
  Vector<T> acc[rows][vectors];
#pragma GCC unroll 7
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v)
      acc[r][v] = in_order<T, step_w>(start_of(t, y + r * t.y_row + v * kLanes<T>, count));
  const int64_t next = t.tap_h * t.x_row;
#pragma GCC unroll 32
  for (int i = 0; i < (rows - 1) * step_h + ker; ++i, x += next) {
#pragma GCC unroll 7
    for (int k = 0; k < C::kLoads; ++k) {
      Vector<T> part[step_w][vectors];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) {
        const T* const from = x + offset[k * step_w] + v * step_w * kLanes<T>;
        part[0][v] = columns.part(from, step_w * k);
        if constexpr (step_w == 2) {
          const Vector<T> a = part[0][v], b = columns.part(from + kLanes<T>, step_w * k + 1);
          part[0][v] = even_lanes_near<T>(a, b);
          part[1][v] = odd_lanes_near<T>(a, b);
        }
      }
#pragma GCC unroll 2
      for (int s = 0; s < step_w; ++s)
#pragma GCC unroll 7
        for (int r = 0; r < rows; ++r) {
          const int th = i - r * step_h, tw = k * step_w + s;
          if (th < 0 || th >= ker || tw >= ker) continue;
#pragma GCC unroll 2
          for (int v = 0; v < vectors; ++v) acc[r][v] += part[s][v] * filter.at(th * ker + tw);
        }
    }
  }
#pragma GCC unroll 7
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) finish(t, y + r * t.y_row + v * kLanes<T>, in_order<T, step_w>(acc[r][v]), count);
}

// One row of results, some of whose taps may be outside: those rows of the filter that are inside.
template <class T, int ker, int step_w, bool masked>
FASTCONV_INLINE void row_block(const DepthwiseTile<T>& t, int64_t taps, const int64_t (&offset)[ker],
                               const Columns<T, ker, step_w, masked>& columns, const T* w, const T* x, T* y,
                               int count) {
  using C = Columns<T, ker, step_w, masked>;
  Vector<T> acc = in_order<T, step_w>(start_of(t, y, count));
  for (; taps > 0; --taps, x += t.tap_h * t.x_row, w += ker) {
#pragma GCC unroll 7
    for (int k = 0; k < C::kLoads; ++k) {
      const T* const from = x + offset[k * step_w];
      const Vector<T> a = columns.part(from, step_w * k);
      if constexpr (step_w == 1) {
        acc += a * broadcast(w[k]);
      } else {
        const Vector<T> b = columns.part(from + kLanes<T>, step_w * k + 1);
        acc += even_lanes_near<T>(a, b) * broadcast(w[2 * k]);
        if (2 * k + 1 < ker) acc += odd_lanes_near<T>(a, b) * broadcast(w[2 * k + 1]);
      }
    }
  }
  finish(t, y, in_order<T, step_w>(acc), count);
}

template <class T, int ker, int step_h, int step_w>
struct Unrolled {
  static constexpr int kRows = ker == 3 && FASTCONV_VECTOR_BYTES == 64 ? 7 : 4, kVectors = ker == 3 ? 1 : 2;
  const DepthwiseTile<T>& t;
  const Filter<T, ker> filter;
  int64_t offset[ker];
  int64_t inner0, inner1;  // whole vectors of results that begin there load inside the row
  int64_t last;            // where the last vector begins
  Columns<T, ker, step_w, true> left, right, other;

  FASTCONV_INLINE explicit Unrolled(const DepthwiseTile<T>& tile) : t(tile), filter(tile.w) {
    constexpr int64_t span = step_w * kLanes<T>;
    int64_t least = t.column[0], most = t.column[0];
    for (int tw = 0; tw < ker; ++tw) {
      offset[tw] = t.column[tw];
      if (tw % step_w) continue;
      least = offset[tw] < least ? offset[tw] : least;
      most = offset[tw] > most ? offset[tw] : most;
    }
    inner0 = least >= 0 ? 0 : (-least + step_w - 1) / step_w;
    const int64_t room = t.in_w - span - most;
    inner1 = room < 0 ? 0 : room / step_w + 1;
    const bool overlap = t.cols >= kLanes<T> && t.add != t.y;
    last = overlap ? t.cols - kLanes<T> : (t.cols - 1) / kLanes<T> * kLanes<T>;
    if constexpr (kMaskedLoads) {
      if (inner0 > 0) left.at(t, 0);
      if (last >= inner1) right.at(t, last);
    }
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
    const Columns<T, ker, step_w, false> whole{};
    columns(
        [&](int64_t q, int64_t end, int count) __attribute__((always_inline)) {
          const int64_t first = q;
          if constexpr (kVectors > 1)
            for (; q + (kVectors - 1) * kLanes<T> < end; q += kVectors * kLanes<T>)
              unrolled_block<T, ker, step_h, step_w, kRows, kVectors>(t, filter, offset, whole, x + q * step_w, y + q,
                                                                      kLanes<T>);
          // `count` is that of the first column: the last vector has one of its own.
          if (q >= end && q > first) return q;
          do {
            unrolled_block<T, ker, step_h, step_w, kRows, 1>(t, filter, offset, whole, x + q * step_w, y + q, count);
            q += kLanes<T>;
          } while (q < end);
          return q;
        },
        [&](int64_t q, int count, const Columns<T, ker, step_w, true>& masks) __attribute__((always_inline)) {
          unrolled_block<T, ker, step_h, step_w, kRows, 1>(t, filter, offset, masks, x + q * step_w, y + q, count);
        });
  }

  FASTCONV_INLINE void row(int64_t r) {
    const int64_t first = t.first_h + r * t.step_h;
    int64_t th0 = first >= 0 ? 0 : (-first + t.tap_h - 1) / t.tap_h;
    int64_t th1 = first >= t.in_h ? 0 : (t.in_h - 1 - first) / t.tap_h + 1;
    if (th1 > ker) th1 = ker;
    if (th0 > th1) th0 = th1;
    T* const y = t.y + r * t.y_row;
    const T* const x = t.x + (first + th0 * t.tap_h) * t.x_row;
    const T* const w = t.w + th0 * ker;
    const Columns<T, ker, step_w, false> whole{};
    columns(
        [&](int64_t q, int64_t end, int count) __attribute__((always_inline)) {
          do {
            row_block<T, ker, step_w>(t, th1 - th0, offset, whole, w, x + q * step_w, y + q, count);
            q += kLanes<T>;
          } while (q < end);
          return q;
        },
        [&](int64_t q, int count, const Columns<T, ker, step_w, true>& masks) __attribute__((always_inline)) {
          row_block<T, ker, step_w>(t, th1 - th0, offset, masks, w, x + q * step_w, y + q, count);
        });
  }

  FASTCONV_INLINE void run() {
    const int64_t reach = (ker - 1) * t.tap_h;
    int64_t r0 = t.first_h >= 0 ? 0 : (-t.first_h + t.step_h - 1) / t.step_h;
    const int64_t room = t.in_h - 1 - reach - t.first_h;
    int64_t r1 = room < 0 ? 0 : room / t.step_h + 1;
    r1 = r1 < t.rows ? r1 : t.rows;
    int64_t r = 0;
    while (r < t.rows) {
      if (r >= r0 && r + kRows <= r1) {
        rows(r);
        r += kRows;
      } else if (r > r0 && r < r1 && r1 - kRows >= r0 && t.add != t.y) {
        rows(r1 - kRows);
        r = r1;
      } else {
        row(r++);
      }
    }
  }
};

template <class T, int ker, int step_h, int step_w>
void unrolled_tile(const DepthwiseTile<T>& t) {
  Unrolled<T, ker, step_h, step_w>(t).run();
}

}  // namespace
