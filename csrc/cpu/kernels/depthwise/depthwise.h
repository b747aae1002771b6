// One filter over one plane: a tile of rows x vectors of results, summed over the taps in registers.
//
//   y[r][q] = act( start[r][q] + sum over th < ker_h, tw < ker_w of  w[th * ker_w + tw] * x(r, th, tw)[q] )
//   x(r, th, tw) = x + r * row_step * x_row + th * tap_row + column[tw]          (a stage: cpu/stage.h)
//   start        = bias, or what y holds (accumulate: a further input channel)
//
// Preconditions: 1 <= rows; 1 <= cols; x readable for whole vectors behind the last column; y touched for q < cols.
#pragma once

#include <stdint.h>

namespace fastconv {

template <class T>
struct DepthwiseTile {
  const T* x;
  int64_t x_row, row_step, tap_row;
  const int64_t* column;
  const T* w;
  int64_t ker_h, ker_w;
  T* y;
  int64_t y_row, rows, cols;
  T bias;
  bool accumulate, activate;
  T low, high;
};

template <class T>
struct DepthwiseKernel {
  // ker_w 3, 5, 7 with ker_h the same, and rows of taps one stored row apart; or any.
  void (*unrolled[3])(const DepthwiseTile<T>&);
  void (*any)(const DepthwiseTile<T>&);

  void run(const DepthwiseTile<T>& t) const {
    const bool square = t.ker_h == t.ker_w && t.tap_row == t.x_row && t.row_step <= 2;
    if (square && (t.ker_w == 3 || t.ker_w == 5 || t.ker_w == 7))
      unrolled[(t.ker_w - 3) / 2](t);
    else
      any(t);
  }
};

struct DepthwiseKernels {
  DepthwiseKernel<float> f32;
  DepthwiseKernel<double> f64;
};

extern const DepthwiseKernels depthwise_baseline, depthwise_avx2, depthwise_avx512, depthwise_neon;

}  // namespace fastconv
