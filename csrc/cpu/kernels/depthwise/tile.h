// The tiles of depthwise.h, once for every ISA: filters and strides for which unrolled.h has no tile, and the table.
//
//   for rows in steps of 4, then 1: for columns in steps of four vectors, then one:
//     acc[rows][vectors] = start;  over all taps, each loaded where it is used: acc[r][v] += w[th][tw] * x
//
// Register budget: 16 acc + 2 (the compiler keeps some of them in L1 where there are 16 registers).
// Vectors at the edge of the image are loaded under masks. Order of the sum: th, then tw. A row outside adds nothing.
#pragma once

#include "channel_sums.h"
#include "channels.h"
#include "isa.h"
#include "padded.h"
#include "padded_pairs.h"
#include "padded_sums.h"
#include "pairs.h"
#include "planes.h"
#include "sums.h"
#include "turn.h"
#include "unrolled.h"

namespace {

using fastconv::DepthwiseKernel;

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
    if constexpr (rows > 1)
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
  const bool overlap = t.rows >= 4 && t.add != t.y;
  for (; r + 4 <= t.rows || (overlap && r < t.rows); r += 4)
    any_rows<T, step_w, 4>(t, r + 4 <= t.rows ? r : t.rows - 4, least, most);
  for (; r < t.rows; ++r) any_rows<T, step_w, 1>(t, r, least, most);
}

// Strides that differ are rare, and so are strides along the width in a stage: any_tile is enough for them.
template <class T, int ker, int step_h, int step_w>
constexpr typename DepthwiseKernel<T>::Run unrolled_or_none() {
  if constexpr (kTuned)
    return unrolled_tile<T, ker, step_h, step_w>;
  else
    return nullptr;
}

#define FASTCONV_UNROLLED(ker) {unrolled_or_none<T, ker, 1, 1>(), unrolled_or_none<T, ker, 2, kMaskedLoads ? 2 : 1>()}
template <class T>
constexpr DepthwiseKernel<T> make_depthwise_kernel() {
  DepthwiseKernel<T> kernel = {{FASTCONV_UNROLLED(3), FASTCONV_UNROLLED(5), FASTCONV_UNROLLED(7)},
                               {any_tile<T, 1>, any_tile<T, 2>},
                               kMaskedLoads,
                               nullptr,
                               channels_tile<T>,
                               turn_in<T>,
                               turn_out<T>,
                               nullptr,
                               channel_sums<T>,
                               nullptr,
                               {},
                               {},
                               {},
                               kLanes<T>};
  if constexpr (kTuned) {
    kernel.planes[0] = planes_tile<T, 3>;
    kernel.planes[1] = planes_tile<T, 5>;
    kernel.planes[2] = planes_tile<T, 7>;
    kernel.plane_pairs[0][0] = plane_pairs_tile<T, 3, false>;
    kernel.plane_pairs[0][1] = plane_pairs_tile<T, 3, true>;
    kernel.plane_pairs[1][0] = plane_pairs_tile<T, 5, false>;
    kernel.plane_pairs[1][1] = plane_pairs_tile<T, 5, true>;
  }
  if constexpr (kMaskedLoads) {
    kernel.pairs = pairs_tile<T>;
    kernel.sums = plane_sums<T>;
    kernel.total = total_of_lanes<T>;
    kernel.plane_sums[0] = plane_sums_tile<T, 3>;
    kernel.plane_sums[1] = plane_sums_tile<T, 5>;
    kernel.plane_sums[2] = plane_sums_tile<T, 7>;
  }
  return kernel;
}
#undef FASTCONV_UNROLLED

}  // namespace
