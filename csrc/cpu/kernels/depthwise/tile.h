// The tiles of depthwise.h, once for every ISA.
//
//   for rows in steps of 7, then 3, 1: for columns in steps of one vector:              unrolled: row reuse
//     acc[7] = start
//     for input row i of (7 - 1) * step + ker_h, unless it is outside:  load its ker_w shifted vectors once
//       for r in 7 with th = i - r * step inside the filter: acc[r] += w[th][:] * loaded[:]
//   any: acc[rows][vectors] over all taps, each loaded where it is used
//
// Register budget, unrolled: 7 acc + ker_w loaded, 14 of 16; with 32 registers a 3x3 filter stays in 9 of them, larger
// filters are broadcast from L1 as operands. Seven rows: maps of 224, 112, .. 7 divide by it.
// Loads of x per multiply-add at 3x3: stride 1 27/63; most of them touch two cache lines.
// Stride 2 along the width: two loads are separated into even and odd columns, which are two taps.
// Vectors at the edge of the image are loaded under masks, which depend on the column alone.
// Order of the sum: th, then tw, for each result, whatever its tile. A row outside adds nothing.
#pragma once

#include "../../simd.h"
#include "channel_sums.h"
#include "channels.h"
#include "depthwise.h"
#include "sums.h"
#include "turn.h"

namespace {

using fastconv::DepthwiseKernel;
using fastconv::DepthwiseTile;

template <class T>
FASTCONV_INLINE Vector<T> start_of(const DepthwiseTile<T>& t, const T* y, int count) {
  const Vector<T> bias = broadcast(t.bias);
  return t.add ? bias + load_some(t.add + (y - t.y), count) : bias;
}

template <class T>
FASTCONV_INLINE void finish(const DepthwiseTile<T>& t, T* y, Vector<T> value, int count) {
  if (t.activate) value = clamp<T>(value, t.low, t.high);
  if (count == kLanes<T>)
    store(y, value);
  else
    store_some(y, value, count);
}

template <class T>
FASTCONV_INLINE bool row_outside(const DepthwiseTile<T>& t, int64_t row) {
  return (uint64_t)row >= (uint64_t)t.in_h;
}

// Bytes ahead of a load that its line is asked for: planes follow each other, so that the next one is on its way
// while the edge of this one is computed.
constexpr int64_t kAhead = 4096;

// The filter: in registers where there are enough.
template <class T, int ker>
struct Filter {
  static constexpr bool kHeld = ker == 3 && FASTCONV_VECTOR_BYTES == 64;
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

// The shifted vectors of one row of x, for the columns from q on.
template <class T, int ker, int step, bool masked>
struct Columns {
  static constexpr int kLoads = step == 1 ? ker : (ker + 1) / 2;
  int64_t offset[kLoads];
  Mask<T> mask[step * kLoads];
  FASTCONV_INLINE explicit Columns(const DepthwiseTile<T>& t) {
#pragma GCC unroll 7
    for (int i = 0; i < kLoads; ++i) offset[i] = t.column[i * step];
  }
  FASTCONV_INLINE void at(const DepthwiseTile<T>& t, int64_t q) {
    if constexpr (masked) {
#pragma GCC unroll 8
      for (int i = 0; i < step * kLoads; ++i) {
        const int64_t first = q * step + offset[i / step] + i % step * kLanes<T>;
        mask[i] = lanes_between<T>(-first, t.in_w - first);
      }
    }
  }
  FASTCONV_INLINE Vector<T> part(const T* x, int i) const {
    const T* const from = x + offset[i / step] + i % step * kLanes<T>;
    if constexpr (masked)
      return load_masked(from, mask[i]);
    else
      return load(from);
  }
  FASTCONV_INLINE void read(const T* x, Vector<T> (&loaded)[ker]) const {
#pragma GCC unroll 7
    for (int i = 0; i < kLoads; ++i) {
      if constexpr (step == 1) {
        loaded[i] = part(x, i);
      } else {
        const Vector<T> a = part(x, 2 * i), b = part(x, 2 * i + 1);
        loaded[2 * i] = even_lanes<T>(a, b);
        if (2 * i + 1 < ker) loaded[2 * i + 1 < ker ? 2 * i + 1 : 0] = odd_lanes<T>(a, b);
      }
    }
  }
};

// `rows` results one below the other, one vector wide. x: row first_h, column 0 of the source's rows.
template <class T, int ker, int step_h, int step_w, int rows, class C>
FASTCONV_INLINE void unrolled_block(const DepthwiseTile<T>& t, const Filter<T, ker>& filter, const C& columns,
                                    int64_t first_row, const T* x, T* y, int count) {
  Vector<T> acc[rows];
#pragma GCC unroll 7
  for (int r = 0; r < rows; ++r) acc[r] = start_of(t, y + r * t.y_row, count);
#pragma GCC unroll 32
  for (int i = 0; i < (rows - 1) * step_h + ker; ++i) {
    const int64_t row = first_row + i * t.tap_h;
    if (row_outside(t, row)) continue;
    Vector<T> loaded[ker];
    __builtin_prefetch((const char*)(x + row * t.x_row) + kAhead);
    if (step_w == 2) __builtin_prefetch((const char*)(x + row * t.x_row) + kAhead + 64);
    columns.read(x + row * t.x_row, loaded);
#pragma GCC unroll 7
    for (int r = 0; r < rows; ++r) {
      const int th = i - r * step_h;
      if (th < 0 || th >= ker) continue;
#pragma GCC unroll 7
      for (int tw = 0; tw < ker; ++tw) acc[r] += loaded[tw] * filter.at(th * ker + tw);
    }
  }
#pragma GCC unroll 7
  for (int r = 0; r < rows; ++r) finish(t, y + r * t.y_row, acc[r], count);
}

template <class T, int ker, int step_h, int step_w, int rows>
FASTCONV_INLINE void unrolled_rows(const DepthwiseTile<T>& t, const Filter<T, ker>& filter, int64_t r) {
  constexpr int span = step_w == 1 ? kLanes<T> : 2 * kLanes<T>;
  int64_t least = t.column[0], most = t.column[0];
  for (int tw = step_w; tw < ker; tw += step_w) {
    least = t.column[tw] < least ? t.column[tw] : least;
    most = t.column[tw] > most ? t.column[tw] : most;
  }
  const Columns<T, ker, step_w, false> inner(t);
  const int64_t first_row = t.first_h + r * t.step_h;
  T* const y = t.y + r * t.y_row;
  for (int64_t q = 0; q < t.cols; q += kLanes<T>) {
    const int count = t.cols - q < kLanes<T> ? (int)(t.cols - q) : kLanes<T>;
    const T* const x = t.x + q * step_w;
    if constexpr (kMaskedLoads)
      if (q * step_w + least < 0 || q * step_w + most + span > t.in_w) {
        Columns<T, ker, step_w, true> edge(t);
        edge.at(t, q);
        unrolled_block<T, ker, step_h, step_w, rows>(t, filter, edge, first_row, x, y + q, count);
        continue;
      }
    unrolled_block<T, ker, step_h, step_w, rows>(t, filter, inner, first_row, x, y + q, count);
  }
}

template <class T, int ker, int step_h, int step_w>
void unrolled_tile(const DepthwiseTile<T>& t) {
  const Filter<T, ker> filter(t.w);
  int64_t r = 0;
  for (; r + 7 <= t.rows; r += 7) unrolled_rows<T, ker, step_h, step_w, 7>(t, filter, r);
  for (; r + 3 <= t.rows; r += 3) unrolled_rows<T, ker, step_h, step_w, 3>(t, filter, r);
  for (; r < t.rows; ++r) unrolled_rows<T, ker, step_h, step_w, 1>(t, filter, r);
}

// `rows` x `vectors` of results over all taps.
template <class T, int step_w, int rows, int vectors, bool masked>
FASTCONV_INLINE void any_block(const DepthwiseTile<T>& t, int64_t r, int64_t q) {
  Vector<T> acc[rows][vectors];
  T* const y = t.y + r * t.y_row + q;
  const int64_t left = t.cols - q - (vectors - 1) * kLanes<T>;
  const int last = left < kLanes<T> ? (int)left : kLanes<T>;
#pragma GCC unroll 4
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v)
      acc[i][v] = start_of(t, y + i * t.y_row + v * kLanes<T>, v + 1 < vectors ? kLanes<T> : last);
  for (int64_t th = 0; th < t.ker_h; ++th)
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) {
      const int64_t row = t.first_h + (r + i) * t.step_h + th * t.tap_h;
      if (row_outside(t, row)) continue;
      const T* const x = t.x + row * t.x_row + q * step_w;
      for (int64_t tw = 0; tw < t.ker_w; ++tw) {
        const Vector<T> w = broadcast(t.w[th * t.ker_w + tw]);
        const T* const from = x + t.column[tw];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
          Vector<T> part[step_w];
#pragma GCC unroll 2
          for (int s = 0; s < step_w; ++s) {
            const int64_t at = (v * step_w + s) * kLanes<T>;
            if constexpr (masked) {
              const int64_t column = q * step_w + t.column[tw] + at;
              part[s] = load_masked(from + at, lanes_between<T>(-column, t.in_w - column));
            } else {
              part[s] = load(from + at);
            }
          }
          acc[i][v] += (step_w == 1 ? part[0] : even_lanes<T>(part[0], part[step_w - 1])) * w;
        }
      }
    }
#pragma GCC unroll 4
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v)
      finish(t, y + i * t.y_row + v * kLanes<T>, acc[i][v], v + 1 < vectors ? kLanes<T> : last);
}

template <class T, int step_w, int rows>
FASTCONV_INLINE void any_rows(const DepthwiseTile<T>& t, int64_t r, int64_t least, int64_t most) {
  int64_t q = 0;
  while (q < t.cols) {
    const auto inside = [&](int64_t vectors) {
      return q * step_w + least >= 0 && (q + vectors * kLanes<T>)*step_w + most <= t.in_w;
    };
    if (q + 4 * kLanes<T> <= t.cols && inside(4)) {
      any_block<T, step_w, rows, 4, false>(t, r, q);
      q += 4 * kLanes<T>;
      continue;
    }
    if (!kMaskedLoads || inside(1))
      any_block<T, step_w, rows, 1, false>(t, r, q);
    else
      any_block<T, step_w, rows, 1, kMaskedLoads>(t, r, q);
    q += kLanes<T>;
  }
}

template <class T, int step_w>
void any_tile(const DepthwiseTile<T>& t) {
  int64_t least = 0, most = 0;
  for (int64_t tw = 0; tw < t.ker_w; ++tw) {
    least = tw == 0 || t.column[tw] < least ? t.column[tw] : least;
    most = tw == 0 || t.column[tw] > most ? t.column[tw] : most;
  }
  int64_t r = 0;
  for (; r + 4 <= t.rows; r += 4) any_rows<T, step_w, 4>(t, r, least, most);
  for (; r < t.rows; ++r) any_rows<T, step_w, 1>(t, r, least, most);
}

// Strides that differ are rare, and so are strides along the width in a stage: any_tile is enough for them.
template <class T, int ker, int step>
constexpr auto kStrided = unrolled_tile<T, ker, 2, step>;

#define FASTCONV_UNROLLED(ker) {unrolled_tile<T, ker, 1, 1>, kStrided < T, ker, kMaskedLoads ? 2 : 1 > }
template <class T>
constexpr DepthwiseKernel<T> make_depthwise_kernel() {
  return {{FASTCONV_UNROLLED(3), FASTCONV_UNROLLED(5), FASTCONV_UNROLLED(7)},
          {any_tile<T, 1>, any_tile<T, 2>},
          kMaskedLoads,
          channels_tile<T>,
          turn_in<T>,
          turn_out<T>,
          plane_sums<T>,
          channel_sums<T>,
          total_of_lanes<T>,
          kLanes<T>};
}
#undef FASTCONV_UNROLLED

}  // namespace
