// The register tile of weight gradients: inner products of rows, both operands contiguous along the sum.
//
//   c[i][j] += sum over k < depth of a[i * a_row + k] * b[j * b_row + k]
//
// i = output channel, j = (input channel, tap), k = pixel: in NCHW both lie with the pixels contiguous, so that
// nothing is transposed. Each c gathers in a whole vector of partial sums, added up once at the end.
//
// Preconditions: depth is a multiple of the lanes (rows are padded with zeros); a tile of the table's rows and cols.
#pragma once

#include <stdint.h>

namespace fastconv {

template <class T>
struct DotTile {
  const T* a;
  int64_t a_row;
  const T* b;
  int64_t b_row;
  int64_t depth;
  T* c;
  int64_t c_row;
};

constexpr int kMaxDotRows = 4, kMaxDotCols = 6;

template <class T>
struct DotKernel {
  int lanes, max_rows, max_cols;
  void (*tile[kMaxDotRows][kMaxDotCols])(const DotTile<T>&);
  void run(const DotTile<T>& d, int64_t rows, int64_t cols) const { tile[rows - 1][cols - 1](d); }
};

struct DotKernels {
  DotKernel<float> f32;
  DotKernel<double> f64;
};

extern const DotKernels dot_baseline, dot_avx2, dot_avx512, dot_neon;

}  // namespace fastconv
