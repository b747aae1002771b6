// Weight gradient of depthwise with the channels last (depthwise.h, DepthwisePixelSums): lanes are channels.
//
//   for blocks of up to 3 x ker_w taps: for vector of channels:
//     acc[3][ker_w] = 0
//     for pixel of y, row by row:  load y once;  acc[i][j] += y * x[its pixel of x for that tap]
//     sums += acc
//
// Register budget, AVX-512: 21 acc + 1; with 16 registers the blocks are lower. x is an operand in memory.
// Order of the sum: rows, then pixels.
#pragma once

#include "channels.h"

namespace {

using fastconv::DepthwisePixelSums;

// Taps [th0, th0 + down) x [tw0, tw0 + along) of a vector of channels, over all pixels.
template <class T, int down, int along, bool whole>
void channel_sums_block(const DepthwisePixelSums<T>& t, int64_t th0, int64_t tw0, int64_t c, int count) {
  Vector<T> acc[down][along] = {};
  // Pixels [q0, q1) have all these taps inside the row.
  const int64_t near = t.first_w + tw0 * t.tap_w, far = near + (along - 1) * t.tap_w;
  int64_t q0 = near >= 0 ? 0 : (-near + t.step_w - 1) / t.step_w;
  int64_t q1 = far >= t.in_w ? 0 : (t.in_w - 1 - far) / t.step_w + 1;
  q1 = q1 < t.cols ? q1 : t.cols;
  q0 = q0 < q1 ? q0 : q1;
  for (int64_t r = 0; r < t.rows; ++r) {
    const int64_t row = t.first_h + r * t.step_h + th0 * t.tap_h;
    const T* const y = t.y + r * t.y_row + c;
    const T* const x = t.x + near * t.x_col + c;
    const bool all = row >= 0 && row + (down - 1) * t.tap_h < t.in_h;
    const auto edge = [&](int64_t q) __attribute__((always_inline)) {
      const Vector<T> dy = load_channels<T, whole>(y + q * t.y_col, count);
#pragma GCC unroll 3
      for (int i = 0; i < down; ++i) {
        const int64_t at = row + i * t.tap_h;
        if ((uint64_t)at >= (uint64_t)t.in_h) continue;
#pragma GCC unroll 7
        for (int j = 0; j < along; ++j)
          if ((uint64_t)(near + q * t.step_w + j * t.tap_w) < (uint64_t)t.in_w)
            acc[i][j] += dy * load_channels<T, whole>(x + at * t.x_row + (q * t.step_w + j * t.tap_w) * t.x_col, count);
      }
    };
    const int64_t inner0 = all ? q0 : t.cols, inner1 = all ? q1 : t.cols;
    for (int64_t q = 0; q < t.cols; ++q) {
      if (q < inner0 || q >= inner1) {
        edge(q);
        continue;
      }
      const Vector<T> dy = load_channels<T, whole>(y + q * t.y_col, count);
#pragma GCC unroll 3
      for (int i = 0; i < down; ++i)
#pragma GCC unroll 7
        for (int j = 0; j < along; ++j)
          acc[i][j] += dy * load_channels<T, whole>(
                                x + (row + i * t.tap_h) * t.x_row + (q * t.step_w + j * t.tap_w) * t.x_col, count);
    }
  }
#pragma GCC unroll 3
  for (int i = 0; i < down; ++i)
#pragma GCC unroll 7
    for (int j = 0; j < along; ++j) {
      T* const to = t.sums + ((th0 + i) * t.ker_w + tw0 + j) * t.channels + c;
      if constexpr (whole)
        store(to, load(to) + acc[i][j]);
      else
        store_some(to, load_some(to, count) + acc[i][j], count);
    }
}

template <class T, int down, int along>
void channel_sums_taps(const DepthwisePixelSums<T>& t, int64_t th0, int64_t tw0) {
  int64_t c = 0;
  for (; c + kLanes<T> <= t.channels; c += kLanes<T>)
    channel_sums_block<T, down, along, true>(t, th0, tw0, c, kLanes<T>);
  if (c == t.channels) return;
  for (int i = 0; i < down; ++i) channel_sums_block<T, 1, along, false>(t, th0 + i, tw0, c, (int)(t.channels - c));
}

template <class T, int along>
FASTCONV_INLINE void channel_sums_columns(const DepthwisePixelSums<T>& t, int64_t tw0) {
  constexpr int most = FASTCONV_VECTOR_BYTES == 64 || along <= 3 ? 3 : along <= 5 ? 2 : 1;
  int64_t th = 0;
  for (; th + most <= t.ker_h; th += most) channel_sums_taps<T, most, along>(t, th, tw0);
  for (; th < t.ker_h; ++th) channel_sums_taps<T, 1, along>(t, th, tw0);
}

template <class T>
void channel_sums(const DepthwisePixelSums<T>& t) {
  int64_t tw = 0;
  if constexpr (kTuned) {
    for (; tw + 7 <= t.ker_w; tw += 7) channel_sums_columns<T, 7>(t, tw);
    for (; tw + 5 <= t.ker_w; tw += 5) channel_sums_columns<T, 5>(t, tw);
  }
  for (; tw + 3 <= t.ker_w; tw += 3) channel_sums_columns<T, 3>(t, tw);
  for (; tw < t.ker_w; ++tw) channel_sums_columns<T, 1>(t, tw);
}

}  // namespace
