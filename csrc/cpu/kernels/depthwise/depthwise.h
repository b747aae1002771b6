// One filter over one plane: tiles of rows x vectors of results, summed over the taps in registers.
//
//   y[r][q] = act( start[r][q] + sum over th < ker_h, tw < ker_w of  w[th * ker_w + tw] * X(r, th)(q, tw) )
//   X(r, th)(q, tw) = x[row * x_row + col],  row = first_h + r * step_h + th * tap_h,  col = q * step_w + column[tw]
//                     0 where row is outside [0, in_h) or col outside [0, in_w)
//   start           = bias (+ add[r * y_row + q]: a residual, or y itself for a further input channel or slice)
//
// The plane is the image itself, read under masks at its edges (where `reads_in_place`), or a stage (cpu/stage.h) that
// holds the padding: then step_w is 1, in_w is kStaged, and whole vectors behind the last column must be readable.
// Preconditions: 1 <= rows; 1 <= cols; step_w 1 or 2; tap_h > 0; column[] ascends, or in_w is kStaged and it is >= 0.
// Only y[r][q] with q < cols is touched. The order of a sum depends on ker_h, ker_w and the steps alone.
#pragma once

#include <stdint.h>

namespace fastconv {

constexpr int64_t kStaged = int64_t{1} << 61;

template <class T>
struct DepthwiseTile {
  const T* x;
  int64_t x_row, in_h, in_w;
  int64_t first_h, step_h, tap_h;
  int64_t step_w;
  const int64_t* column;
  const T* w;
  int64_t ker_h, ker_w;
  T* y;
  int64_t y_row, rows, cols;
  T bias;
  const T* add;  // or null
  bool activate;
  T low, high;
  bool ahead;  // ask for rows of x ahead: planes follow each other in memory and come from beyond the caches
};

// Channels last: neighbouring channels along the vector, each with its own filter.
//
//   y[r * y_row + q * y_col + c] = act( start + sum over th, tw of  w[(th * ker_w + tw) * w_tap + c] * X[c] )
//   X[c] = x[row * x_row + col * x_col + c],  row = first_h + r * step_h + th * tap_h, col alike; 0 outside
//   start = bias[c] (0 without bias) (+ add, placed as y is: a residual, or y itself)
template <class T>
struct DepthwisePixels {
  const T* x;
  int64_t x_row, x_col, in_h, in_w;
  int64_t first_h, step_h, tap_h, first_w, step_w, tap_w;
  const T* w;
  int64_t w_tap, ker_h, ker_w;
  T* y;
  int64_t y_row, y_col, rows, cols, channels;
  const T *bias, *add;  // or null
  bool activate;
  T low, high;
};

// The gradient of a stride of 2 along the width: results of even and of odd columns are sums over other taps.
//
//   y[r * y_row + 2 * q + s] = act( bias + sum over th, tw of  side[s].w[th * side[s].ker_w + tw] * x[row * x_row +
//   col] ) row = first_h + r + th * tap_h,  col = q + side[s].first_w + tw * tap_w;  0 outside
//
// for r < rows, 2 * q + s < cols. Only where the ISA loads under masks.
template <class T>
struct DepthwisePairs {
  struct Side {
    const T* w;
    int64_t first_w, ker_w;
  };
  const T* x;
  int64_t x_row, in_h, in_w;
  int64_t first_h, tap_h, tap_w, ker_h;
  Side side[2];
  T* y;
  int64_t y_row, rows, cols;
  T bias;
  bool activate;
  T low, high;
};

// Weight gradient of one plane: for th < rows of taps, tw < columns of taps
//
//   sums[(th * ker_w + tw) * lanes + l] += sum over r, q with q mod lanes = l of  y[r * y_row + q] * X(r, th)(q, tw)
//
// X as for DepthwiseTile. The lanes are added up by the caller, once (`total`).
template <class T>
struct DepthwiseSums {
  const T* x;
  int64_t x_row, in_h, in_w;
  int64_t first_h, step_h, tap_h, step_w;
  const int64_t* column;
  int64_t ker_h, ker_w;
  const T* y;
  int64_t y_row, rows, cols;
  T* sums;
};

// The same with the channels last:
//   sums[(th * ker_w + tw) * channels + c] += sum over r, q of  y[r * y_row + q * y_col + c] * X[c]
template <class T>
struct DepthwisePixelSums {
  const T* x;
  int64_t x_row, x_col, in_h, in_w;
  int64_t first_h, step_h, tap_h, first_w, step_w, tap_w;
  int64_t ker_h, ker_w;
  const T* y;
  int64_t y_row, y_col, rows, cols, channels;
  T* sums;
};

// Rows of `channels` planes <-> lanes[r * lanes_row + i * (lanes of a vector) + c] = planes[c * plane + r * planes_row
// + i],  r < rows, i < count. In: lanes behind the last channel are undefined. Out: they are not looked at, and nothing
// else of the planes is touched. 1 <= channels <= lanes of a vector.
template <class T>
struct DepthwiseTurn {
  T* planes;
  int64_t plane, channels, count;
  T* lanes;
  int64_t rows, planes_row, lanes_row;
};

// Planes one after the other, and two copies between zeros that take turns: a kernel stores element q of row r at
// copy[..][first + r * row + q], and nothing else but what is behind it up to a whole vector, where in_w is less.
template <class T>
struct DepthwiseCopies {
  const T* x;
  int64_t planes, in_h, in_w;
  T* copy[2];
  int64_t first, row;
};

// One filter over each of several planes; filter i and result i belong to plane i.
//
//   y[r * cols + q] = act( bias[i] (+ add, placed as y is) + sum over th, tw of  w[(th * ker + tw) * w_step] *
//                          copy[read + (r + th) * row + q + tw * tap_w] )
//
// Whole vectors of the copy are read that begin with a result, of a row or of y what is less. add is not y.
template <class T>
struct DepthwisePlanes {
  DepthwiseCopies<T> from;
  int64_t read, tap_w;
  const T* w;
  int64_t w_step;  // 1; or -1, and w is the last element of the first filter
  T* y;
  int64_t rows, cols;
  const T *bias, *add;  // or null
  bool activate;
  T low, high;
};

// The weight gradient of each of several planes: sums of plane i as those of DepthwiseSums, one behind the other, with
//   X(r, th)(q, tw) = copy[read + row_of_x * row + q + tw * tap_w],  row_of_x = first_h + r + th,  0 outside [0, in_h)
// The copy is read up to whole vectors behind the last column, and must be finite there.
template <class T>
struct DepthwisePlaneSums {
  DepthwiseCopies<T> from;
  int64_t read, first_h, tap_w;
  const T* y;
  int64_t rows, cols;
  T* sums;
};

// The gradient of a stride of 2 by 2 of each of several planes, 3x3 or 5x5, at the places 2 * i + s with s 0 or 1:
//
//   y[(2 * r + s) * cols + 2 * q + s'] = act( bias[i] + sum over u, v < (ker + 1) / 2 of
//                                             w[tap(s, u) * ker + tap(s', v)] * copy[read + (r + u) * row + q + v] )
//   tap(s, u) = ker - 1 - 2 * u for even places of a tile with even first, or odd ones of the other; for the places
//   between, ker - 2 * u with even first, else ker - 2 - 2 * u. A tap outside the filter adds nothing.
template <class T>
struct DepthwisePlanePairs {
  DepthwiseCopies<T> from;
  int64_t read;
  const T* w;
  T* y;
  int64_t rows, cols;
  const T* bias;  // or null
  bool activate;
  T low, high;
};

template <class T>
struct DepthwiseKernel {
  using Run = void (*)(const DepthwiseTile<T>&);
  Run unrolled[3][2];   // 3x3, 5x5, 7x7; step_h = 1 or 2 times tap_h, step_w the same, or 1 without masks; or null
  Run any[2];           // step_w 1 or 2
  bool reads_in_place;  // loads under masks; otherwise pairs, sums and total are null
  void (*pairs)(const DepthwisePairs<T>&);
  void (*pixels)(const DepthwisePixels<T>&);
  void (*turn_in)(const DepthwiseTurn<T>&);
  void (*turn_out)(const DepthwiseTurn<T>&);
  void (*sums)(const DepthwiseSums<T>&);
  void (*pixel_sums)(const DepthwisePixelSums<T>&);
  void (*total)(const T* sums, int64_t count, T* to);  // to[i] = the sum of the lanes of vector i
  // 3x3, 5x5, 7x7; null for processors older than AVX2, plane_sums also without masks.
  void (*planes[3])(const DepthwisePlanes<T>&);
  void (*plane_pairs[2][2])(const DepthwisePlanePairs<T>&);  // 3x3, 5x5; even first
  void (*plane_sums[3])(const DepthwisePlaneSums<T>&);
  int lanes;

  Run unrolled_for(const DepthwiseTile<T>& t) const {
    const bool square = t.ker_h == t.ker_w && (t.ker_w == 3 || t.ker_w == 5 || t.ker_w == 7);
    const int64_t step = t.step_h == t.tap_h ? 1 : t.step_h == 2 * t.tap_h ? 2 : 0;
    if (!square || step == 0 || t.step_w != (reads_in_place ? step : 1)) return nullptr;
    if (t.step_w == 2)  // pairs of neighbouring columns are loaded together
      for (int64_t tw = 1; tw < t.ker_w; ++tw)
        if (t.column[tw] != t.column[0] + tw) return nullptr;
    return unrolled[(t.ker_w - 3) / 2][step - 1];
  }

  void run(const DepthwiseTile<T>& t) const {
    if (t.step_h == 1 && t.tap_h > 1) {
      // Rows a dilation apart share their taps: as many planes of their own.
      for (int64_t phase = 0; phase < t.tap_h && phase < t.rows; ++phase) {
        DepthwiseTile<T> part = t;
        part.first_h = t.first_h + phase;
        part.step_h = t.tap_h;
        part.y = t.y + phase * t.y_row;
        if (t.add) part.add = t.add + phase * t.y_row;
        part.y_row = t.y_row * t.tap_h;
        part.rows = (t.rows - phase + t.tap_h - 1) / t.tap_h;
        run_rows(part);
      }
      return;
    }
    run_rows(t);
  }

  void run_rows(const DepthwiseTile<T>& t) const {
    const Run run = unrolled_for(t);
    (run ? run : any[t.step_w - 1])(t);
  }
};

struct DepthwiseKernels {
  DepthwiseKernel<float> f32;
  DepthwiseKernel<double> f64;
};

extern const DepthwiseKernels depthwise_baseline, depthwise_avx2, depthwise_avx512, depthwise_neon;

}  // namespace fastconv
