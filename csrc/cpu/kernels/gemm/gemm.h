// The register tile behind every convolution: a small matrix product with its result finished on registers.
//
//   c[i][j] = act( sum over s < segments, k < depth of  A(i, s, k) * B(s, k, j)  + bias (+ add[i][j]) )
//   A(i, s, k) = a[a_segment[s] + k * a_k + i * a_row]      one element, broadcast to all lanes
//   B(s, k, j) = b[b_segment[s] + k * b_k + j]              j contiguous: one or two vectors
//
// m, n, k here are a matrix's; who is who is the loop nest's business:
//   pixels along the vector:    A = weights (i = output channel), B = input pixels
//   channels along the vector:  A = input pixels (i = pixel),     B = weights (j = output channel)
//
// Packed panels, as algorithms pack them (rows of a panel: 64-byte aligned is enough, alignment is not required):
//   A:  k=0: a00 a10 .. a(m-1)0 | k=1: a01 a11 .. a(m-1)1 | ...     a_row = 1, a_k = m
//   B:  k=0: b00 b01 .. b0(n-1) | k=1: b10 b11 .. b1(n-1) | ...     b_k = n = vectors * lanes
// An operand read in place sets the strides of the array it lies in.
//
// A table row holds a function for every tile of 1..max_rows rows and 1..kMaxVectors vectors: a loop nest divides its
// rows evenly, so that no row of a tile is computed for nothing.
//
// Preconditions: rows and vectors are those of the function called; 1 <= cols <= vectors * lanes; B may be read over
// the full width vectors * lanes, and so may col_bias; c is touched only for j < cols; a_segment and b_segment are null
// when segments == 1.
#pragma once

#include <stdint.h>

namespace fastconv {

template <class T>
struct GemmTile {
  const T* a;
  int64_t a_row, a_k;
  const int64_t* a_segment;
  const T* b;
  int64_t b_k;
  const int64_t* b_segment;
  int64_t segments, depth;
  const T* ask;  // null, or what is read soon: step k of the sum asks for the cache line at ask + k * ask_step
  int64_t ask_step;

  // c[i][j] is at c + i * c_row + j * c_col, or row_offset[i] / col_offset[j] in place of a product where not null.
  T* c;
  int64_t c_row, c_col;
  const int64_t* row_offset;
  const int64_t* col_offset;
  int cols;

  const T* row_bias;  // one per row, one per column, or null
  const T* col_bias;
  const T* add;   // where it is not null: as many elements placed as those of c are; c itself, to accumulate
  bool activate;  // clamp to [low, high], keeping NaN
  T low, high;
};

constexpr int kMaxVectors = 2;
constexpr int kMaxTileRows = 14;

template <class T>
using GemmFunction = void (*)(const GemmTile<T>&);

template <class T>
struct GemmKernel {
  int lanes, max_rows;
  GemmFunction<T> tile[kMaxVectors][kMaxTileRows];

  void run(const GemmTile<T>& g, int rows, int vectors) const { tile[vectors - 1][rows - 1](g); }
  int width() const { return kMaxVectors * lanes; }
};

struct GemmKernels {
  GemmKernel<float> f32;
  GemmKernel<double> f64;
};

// Defined by the ISA files that this build contains.
extern const GemmKernels gemm_baseline, gemm_avx2, gemm_avx512, gemm_neon;

}  // namespace fastconv
