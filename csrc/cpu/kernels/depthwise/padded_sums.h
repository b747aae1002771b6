// Weight gradients of 3x3, 5x5 or 7x7 over several planes in a row (depthwise.h, DepthwisePlaneSums).
//
//   for plane: copy of the next one between zeros (padded.h)
//     for blocks of `down` rows of taps:  acc[down][ker] = 0
//       for row of x: for vectors of results:  load its ker shifted vectors
//         for th with r a row of y: load y[r]:  acc[th][:] += y[r] * loaded[:]
//     sums += acc
//
// Between zeros all vectors of x are whole; the last of y is loaded under one mask, which stays in a register.
// Register budget, 16: 3x3 9 acc + 3 loaded + 2; 5x5 in blocks of 2, 7x7 of 1 row of taps; 32: 3 rows of all.
#pragma once

#include "padded.h"

namespace {

using fastconv::DepthwisePlaneSums;

template <class T, int ker, int down>
FASTCONV_INLINE void plane_sums_rows(const DepthwisePlaneSums<T>& t, const T* copy, const T* y_plane, int64_t th0,
                                     T* sums) {
  Vector<T> acc[down][ker] = {};
  const int64_t cols = t.cols, tap_w = t.tap_w, whole = cols / kLanes<T> * kLanes<T>;
  const Mask<T> mask = lanes_between<T>(0, cols - whole);
  // Row k of x meets row k - first - i of y in row th0 + i of the taps.
  const int64_t first = t.first_h + th0;
  const auto row = [&]<bool all>(int64_t k) __attribute__((always_inline)) {
    const T* const x = copy + t.read + k * t.from.row;
    const T* const y = y_plane + (k - first) * cols;
    const auto vector = [&]<bool masked>(int64_t q) __attribute__((always_inline)) {
      Vector<T> part[ker];
#pragma GCC unroll 7
      for (int j = 0; j < ker; ++j) part[j] = load(x + q + j * tap_w);
#pragma GCC unroll 3
      for (int i = 0; i < down; ++i) {
        if (!all && (uint64_t)(k - first - i) >= (uint64_t)t.rows) continue;
        const T* const from = y - i * cols + q;
        const Vector<T> dy = masked ? load_masked(from, mask) : load(from);
#pragma GCC unroll 7
        for (int j = 0; j < ker; ++j) acc[i][j] += part[j] * dy;
      }
    };
    for (int64_t q = 0; q < whole; q += kLanes<T>) vector.template operator()<false>(q);
    if (whole < cols) vector.template operator()<true>(whole);
  };
  const auto inside = [&](int64_t k) { return k < 0 ? 0 : k < t.from.in_h ? k : t.from.in_h; };
  const int64_t begin = inside(first), end = inside(first + t.rows + down - 1);
  int64_t k = begin;
  const int64_t all0 = inside(first + down - 1), all1 = inside(first + t.rows);
  for (; k < end && (k < all0 || k >= all1); ++k) row.template operator()<false>(k);
  for (; k < all1; ++k) row.template operator()<true>(k);
  for (; k < end; ++k) row.template operator()<false>(k);
#pragma GCC unroll 3
  for (int i = 0; i < down; ++i)
#pragma GCC unroll 7
    for (int j = 0; j < ker; ++j) {
      T* const to = sums + ((th0 + i) * ker + j) * kLanes<T>;
      store(to, load(to) + acc[i][j]);
    }
}

template <class T, int ker>
void plane_sums_tile(const DepthwisePlaneSums<T>& t) {
  constexpr int down = FASTCONV_VECTOR_BYTES == 64 || ker == 3 ? 3 : ker == 5 ? 2 : 1;
  copy_plane(t.from, 0);
  for (int64_t i = 0; i < t.from.planes; ++i) {
    if (i + 1 < t.from.planes) copy_plane(t.from, i + 1);
    const T *const copy = t.from.copy[i % 2], *const y = t.y + i * t.rows * t.cols;
    T* const sums = t.sums + i * ker * ker * kLanes<T>;
    int64_t th = 0;
    for (; th + down <= ker; th += down) plane_sums_rows<T, ker, down>(t, copy, y, th, sums);
    for (; th < ker; ++th) plane_sums_rows<T, ker, 1>(t, copy, y, th, sums);
  }
}

}  // namespace
