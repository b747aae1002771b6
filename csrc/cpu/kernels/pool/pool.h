// Pooling of planes (NCHW) and of pixels (NHWC): the maximum or the average over windows, and the average's gradient.
//
//   y[od][oh][ow] = max or sum over td, th, tw of  x[d + td * step_d][h + th * step_h][w + tw * step_w]
//                   with (d, h, w) = first of the windows (d[od], h[oh], w[ow]); an average divides by
//                   its divisor * extents[ow], where the rows' share is in `divisor`
//
// planes  x one plane [in_d][in_h][in_w], y its results. The rows of a window are reduced into a row of `rows` first,
//         `batch` rows of results at a time, and then the columns of each:
//           row:  | neutral, pad of them | in_w reduced columns | neutral up to the pitch |    places: the same,
//           indices
//         stride 1 to 4: neighbouring results along the vector, the padding is read as neutral elements.
//         stride 0: the windows come one by one from w; nothing outside the input is read, pad is 0.
// pixels  x one image [in_d][in_h][in_w][channels], y one row of results [out_w][channels]: channels along the vector.
//
// The maximum: NaN wins over everything. Its index is the flat position in the plane: of the first of equal values, of
// the last of several NaN (torch's rule). `planes` leaves the index of a NaN to the caller and returns true if it saw
// one. A window without a single tap gives -inf, and an index that means nothing.
//
// Preconditions: x[.., x_end) may be read and y[.., y_end), index[.., ditto) be written, whole vectors at a time:
// results are written in order, and what a vector holds beyond its row is written over by the next row. Rows whose last
// vector would go beyond y_end are made in `spare` and copied. x, y and the scratch overlap nowhere; alignment is not
// required.
#pragma once

#include <stdint.h>

#include "../../../core/window.h"

namespace fastconv {

// The integer as wide as T, for flat indices; planes that do not fit are not for these kernels.
template <class T>
struct PlaceOf {
  using type = int32_t;
};
template <>
struct PlaceOf<double> {
  using type = int64_t;
};
template <class T>
using Place = typename PlaceOf<T>::type;

template <class T>
struct PoolPlanes {
  const T* x;
  const T* x_end;
  T* y;  // of row 0, column 0
  const T* y_end;
  int64_t* index;
  const Window *d, *h, *w;
  int64_t row_begin, row_end;  // rows of results: od * out_h + oh
  int64_t col_begin, col_end;
  int64_t out_h, out_w, in_h, in_w;
  int64_t step_d, step_h, step_w;
  int64_t kernel, stride, pad;  // along the width; kernel is not used for stride 0
  T* rows;
  Place<T>* places;
  int64_t pitch, batch;
  T* spare;  // col_end - col_begin results and kPoolSlack; spare_index, if there are indices, as well
  int64_t* spare_index;
  // averages
  const T* extents;
  int64_t divisor;  // divisor_override, or 0: the product of the extents (or of the taps) of d and h
  bool count_pad;
};

template <class T>
struct PoolPixels {
  const T* x;
  const T* x_end;
  T* y;
  const T* y_end;
  int64_t* index;
  Window d, h;
  const Window* w;
  int64_t out_w, in_h, in_w, channels;
  int64_t step_d, step_h, step_w;
  T* spare;  // out_w * channels results and kPoolSlack; spare_index as well
  int64_t* spare_index;
  const T* extents;
  T divisor;
};

constexpr int64_t kMaxPoolStride = 4;

// Elements behind the last one named that a row must have: a stride of 4 reads four of the widest vectors (16) from the
// last result on.
constexpr int64_t kPoolSlack = 64;

template <class T>
struct PoolKernel {
  bool (*max_planes)(const PoolPlanes<T>&);  // with indices if index is not null
  void (*average_planes)(const PoolPlanes<T>&);
  void (*max_pixels)(const PoolPixels<T>&);
  void (*average_pixels)(const PoolPixels<T>&);
  // y[i] = the maximum or sum of the plane x[i * pixels .. (i + 1) * pixels)
  void (*max)(T* y, const T* x, int64_t pixels, int64_t planes);
  void (*sum)(T* y, const T* x, int64_t pixels, int64_t planes);
  // dst[i] += src[i]
  void (*add)(T* dst, const T* src, int64_t count);
  // dst[i] = src[i] / (divisor * extents[i])
  void (*divide)(T* dst, const T* src, const T* extents, T divisor, int64_t count);
  // dst[j] = sum over t < taps of src[j - t]; both have kPoolSlack behind them
  void (*correlate)(T* dst, const T* src, int64_t count, int64_t taps);
  // dst[t][c] += g[c] / divisor for t < taps
  void (*spread)(T* dst, const T* g, int64_t taps, int64_t channels, T divisor);
};

struct PoolKernels {
  PoolKernel<float> f32;
  PoolKernel<double> f64;
};

extern const PoolKernels pool_baseline, pool_avx2, pool_avx512, pool_neon;

}  // namespace fastconv
