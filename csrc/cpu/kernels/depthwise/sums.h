// Weight gradient of depthwise over one plane (depthwise.h, DepthwiseSums): lanes are neighbouring pixels of a row.
//
//   for columns in steps of one vector: for blocks of up to 3 x ker_w taps:
//     acc[3][ker_w] = 0
//     for row of x:  load its ker_w shifted vectors once
//       for th with r = (row - th * tap_h) / step_h a row of y:  acc[th][:] += y[r] * loaded[:]
//     sums += acc
//
// Register budget, AVX-512: 21 acc + 7 loaded + 1 of 32; with 16 registers the blocks are lower. Partial sums of one
// column of vectors are added to those of the others, which keeps long sums accurate.
// With a stride of 2 along the width the lanes of y are put once into the order that one shuffle of x gives (planes.h).
// Lanes behind the last column are loaded as 0 from both: what lies there in x may be an infinity.
// Only where the ISA loads under masks.
#pragma once

#include "planes.h"

namespace {

using fastconv::DepthwiseSums;

template <class T, int step_w, bool masked>
FASTCONV_INLINE Vector<T> sums_column(const T* x, const Mask<T>* mask) {
  if constexpr (step_w == 1) {
    if constexpr (masked)
      return load_masked(x, mask[0]);
    else
      return load(x);
  } else {
    if constexpr (masked)
      return even_lanes_near<T>(load_masked(x, mask[0]), load_masked(x + kLanes<T>, mask[1]));
    else
      return even_lanes_near<T>(load(x), load(x + kLanes<T>));
  }
}

template <class T, int down, int along, int step_w, bool masked>
FASTCONV_INLINE void sums_block(const DepthwiseSums<T>& t, int64_t th0, int64_t tw0, int64_t q, int count) {
  Vector<T> acc[down][along] = {};
  Mask<T> mask[along][step_w];
  int64_t offset[along];
#pragma GCC unroll 7
  for (int j = 0; j < along; ++j) {
    offset[j] = q * step_w + t.column[tw0 + j];
    if constexpr (masked)
#pragma GCC unroll 2
      for (int s = 0; s < step_w; ++s) {
        const int64_t first = offset[j] + s * kLanes<T>;
        const int64_t room = t.in_w - first, wanted = (int64_t)count * step_w - s * kLanes<T>;
        mask[j][s] = lanes_between<T>(-first, room < wanted ? room : wanted);
      }
  }
  const T* const y = t.y + q;
  const auto read_y = [&](int64_t r) __attribute__((always_inline)) {
    const Vector<T> dy = count == kLanes<T> ? load(y + r * t.y_row) : load_some(y + r * t.y_row, count);
    return step_w == 2 ? lanes_in_order<T>(dy) : dy;
  };
  if (step_w == 1 && t.step_h == t.tap_h && t.step_h == 1) {  // each row of x meets `down` rows of y
    for (int64_t k = 0; k < t.rows + down - 1; ++k) {
      const int64_t row = t.first_h + th0 + k;
      if ((uint64_t)row >= (uint64_t)t.in_h) continue;
      Vector<T> x[along];
#pragma GCC unroll 7
      for (int j = 0; j < along; ++j) x[j] = sums_column<T, step_w, masked>(t.x + row * t.x_row + offset[j], mask[j]);
#pragma GCC unroll 3
      for (int i = 0; i < down; ++i) {
        if ((uint64_t)(k - i) >= (uint64_t)t.rows) continue;
        const Vector<T> dy = read_y(k - i);
#pragma GCC unroll 7
        for (int j = 0; j < along; ++j) acc[i][j] += x[j] * dy;
      }
    }
  } else {
    for (int64_t r = 0; r < t.rows; ++r) {
      const Vector<T> dy = read_y(r);
#pragma GCC unroll 3
      for (int i = 0; i < down; ++i) {
        const int64_t row = t.first_h + r * t.step_h + (th0 + i) * t.tap_h;
        if ((uint64_t)row >= (uint64_t)t.in_h) continue;
#pragma GCC unroll 7
        for (int j = 0; j < along; ++j)
          acc[i][j] += sums_column<T, step_w, masked>(t.x + row * t.x_row + offset[j], mask[j]) * dy;
      }
    }
  }
#pragma GCC unroll 3
  for (int i = 0; i < down; ++i)
#pragma GCC unroll 7
    for (int j = 0; j < along; ++j) {
      T* const to = t.sums + ((th0 + i) * t.ker_w + tw0 + j) * kLanes<T>;
      store(to, load(to) + acc[i][j]);
    }
}

template <class T, int down, int along, int step_w>
void sums_taps(const DepthwiseSums<T>& t, int64_t th0, int64_t tw0) {
  int64_t least = t.column[tw0], most = least;
  for (int j = 1; j < along; ++j) {
    least = t.column[tw0 + j] < least ? t.column[tw0 + j] : least;
    most = t.column[tw0 + j] > most ? t.column[tw0 + j] : most;
  }
  for (int64_t q = 0; q < t.cols; q += kLanes<T>) {
    const int count = t.cols - q < kLanes<T> ? (int)(t.cols - q) : kLanes<T>;
    const bool inside = q * step_w + least >= 0 && (q + kLanes<T>)*step_w + most <= t.in_w && count == kLanes<T>;
    if (inside)
      sums_block<T, down, along, step_w, false>(t, th0, tw0, q, count);
    else
      sums_block<T, down, along, step_w, kMaskedLoads>(t, th0, tw0, q, count);
  }
}

template <class T, int along, int step_w>
FASTCONV_INLINE void sums_columns(const DepthwiseSums<T>& t, int64_t tw0) {
  constexpr int most = FASTCONV_VECTOR_BYTES == 64 || along <= 3 ? 3 : along <= 5 ? 2 : 1;
  int64_t th = 0;
  for (; th + most <= t.ker_h; th += most) sums_taps<T, most, along, step_w>(t, th, tw0);
  for (; th < t.ker_h; ++th) sums_taps<T, 1, along, step_w>(t, th, tw0);
}

template <class T, int step_w>
FASTCONV_INLINE void plane_sums_step(const DepthwiseSums<T>& t) {
  int64_t tw = 0;
  for (; tw + 7 <= t.ker_w; tw += 7) sums_columns<T, 7, step_w>(t, tw);
  for (; tw + 5 <= t.ker_w; tw += 5) sums_columns<T, 5, step_w>(t, tw);
  for (; tw + 3 <= t.ker_w; tw += 3) sums_columns<T, 3, step_w>(t, tw);
  for (; tw < t.ker_w; ++tw) sums_columns<T, 1, step_w>(t, tw);
}

template <class T>
void plane_sums(const DepthwiseSums<T>& t) {
  t.step_w == 1 ? plane_sums_step<T, 1>(t) : plane_sums_step<T, 2>(t);
}

template <class T>
void total_of_lanes(const T* sums, int64_t count, T* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = sum_lanes<T>(load(sums + i * kLanes<T>));
}

}  // namespace
