// The tile of dot.h, once for every ISA.
//
//   acc[rows][cols] = 0 (vectors)
//   for k in depth step lanes:
//     load cols vectors of b, rows vectors of a        (rows + cols) loads for rows * cols multiply-adds
//     acc[i][j] += a[i] * b[j]
//   add up the lanes of the accumulators, `lanes` of them at a time, and add to c
//
// Register budget: AVX-512 and NEON 4x6 + 4 a + 1 b = 29 of 32; AVX2 and SSE 3x4 + 3 a + 1 b = 16 of 16.
// Adding up: fold_lanes of simd.h, some 3 (lanes - 1) instructions.
#pragma once

#include "../../simd.h"
#include "dot.h"

namespace {

using fastconv::DotKernel;
using fastconv::DotTile;

template <class T, int rows, int cols>
void dot_tile(const DotTile<T>& d) {
  constexpr int lanes = kLanes<T>;
  Vector<T> acc[rows][cols] = {};
  const T *a = d.a, *b = d.b;
  const int64_t a_row = d.a_row, b_row = d.b_row;
  for (int64_t k = 0; k < d.depth; k += lanes) {
    Vector<T> av[rows];
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) av[i] = load(a + i * a_row + k);
#pragma GCC unroll 6
    for (int j = 0; j < cols; ++j) {
      const Vector<T> bv = load(b + j * b_row + k);
#pragma GCC unroll 4
      for (int i = 0; i < rows; ++i) acc[i][j] += av[i] * bv;
    }
  }
  constexpr int count = rows * cols;
  T sums[(count + lanes - 1) / lanes * lanes];
#pragma GCC unroll 16
  for (int first = 0; first < count; first += lanes) {
    Vector<T> block[lanes] = {};
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i)
      if (first + i < count) block[i] = acc[(first + i) / cols][(first + i) % cols];
    fold_lanes<1, T>(block);
    store(sums + first, block[0]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 6
    for (int j = 0; j < cols; ++j) d.c[i * d.c_row + j] += sums[i * cols + j];
}

template <class T, int row, int... j>
constexpr void fill_row(DotKernel<T>& kernel, Indices<j...>) {
  ((kernel.tile[row][j] = dot_tile<T, row + 1, j + 1>), ...);
}

template <class T, int max_cols, int... i>
constexpr DotKernel<T> make_dot_kernel(Indices<i...>) {
  DotKernel<T> kernel{kLanes<T>, sizeof...(i), max_cols, {}};
  (fill_row<T, i>(kernel, typename MakeIndices<max_cols>::type{}), ...);
  return kernel;
}

}  // namespace
