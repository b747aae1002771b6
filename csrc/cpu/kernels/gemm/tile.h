// The tile of gemm.h, once for every ISA; an ISA file sets FASTCONV_VECTOR_BYTES and kTileRows and includes this.
//
//   acc[rows][vectors] = 0
//   for s in segments:                      pointers a, b of the segment
//     for k in depth:                       and a cache line of what comes after this tile is asked for
//       b0, b1 = vectors of B               2 loads
//       for i in rows: acc[i][:] += broadcast(A[i]) * b[:]
//   bias, what is to be added, activation on acc; store along rows, or transposed in registers, or through a small tile
//
// Register budget (accumulators + B + broadcast):  AVX-512 14x2 + 2 + 1 = 31 of 32;  AVX2 and SSE 6x2 + 2 + 1 = 15 of
// 16 (SSE has no FMA: its product takes the last one);  NEON 12x2 + 2 + 1 = 27 of 32.
// Loads per multiply-add: (rows + 2) / (2 * rows): 0.57 at 14 rows, 0.67 at 6.
// The sum of an element runs over s and k in order in one accumulator, whatever the tile: results do not depend on
// how the rows and columns were divided.
// After: K. Goto, R. van de Geijn, Anatomy of High-Performance Matrix Multiplication (2008).
#pragma once

#include "../../simd.h"
#include "gemm.h"

namespace {

using fastconv::GemmKernel;
using fastconv::GemmTile;

// Any placement, any width: the tile is on the stack, and each element goes to its address.
template <class T>
__attribute__((noinline)) void finish_scalar(const GemmTile<T>& g, const T* tile, int rows, int width) {
  // The phases of a strided input gradient: every so many pixels, and nothing else to do.
  const bool plain = !g.col_offset && !g.row_bias && !g.col_bias && !g.add && !g.activate;
  for (int i = 0; i < rows; ++i) {
    T* const row = g.c + (g.row_offset ? g.row_offset[i] : i * g.c_row);
    if (plain) {
      for (int j = 0; j < g.cols; ++j) row[j * g.c_col] = tile[i * width + j];
      continue;
    }
    for (int j = 0; j < g.cols; ++j) {
      T* const c = row + (g.col_offset ? g.col_offset[j] : j * g.c_col);
      T value = tile[i * width + j];
      if (g.row_bias) value += g.row_bias[i];
      if (g.col_bias) value += g.col_bias[j];
      if (g.add) value += g.add[c - g.c];
      if (g.activate) {
        value = value < g.low ? g.low : value;
        value = value > g.high ? g.high : value;
      }
      *c = value;
    }
  }
}

template <class T, int rows, int vectors>
FASTCONV_INLINE void add_bias(const GemmTile<T>& g, Vector<T> (&acc)[rows][vectors]) {
  if (g.row_bias) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) acc[i][v] += broadcast(g.row_bias[i]);
  }
  if (g.col_bias) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) {
      const Vector<T> bias = load(g.col_bias + v * kLanes<T>);
#pragma GCC unroll 16
      for (int i = 0; i < rows; ++i) acc[i][v] += bias;
    }
  }
}

// c[i][j..] contiguous: vectors go out as they are.
template <class T, int rows, int vectors>
FASTCONV_INLINE void store_rows(const GemmTile<T>& g, Vector<T> (&acc)[rows][vectors]) {
  // Copies: as far as the compiler knows, what is stored might be g.
  T* const c = g.c;
  const T* const add = g.add;
  const int64_t c_row = g.c_row;
  const bool activate = g.activate;
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) {
      const int64_t at = i * c_row + v * kLanes<T>;
      Vector<T> value = acc[i][v];
      if (add) value += load(add + at);
      if (activate) value = clamp<T>(value, g.low, g.high);
      store(c + at, value);
    }
}

// The same where the last vector is not full, or both lie behind the last column.
template <class T, int rows, int vectors>
FASTCONV_INLINE void store_some_rows(const GemmTile<T>& g, Vector<T> (&acc)[rows][vectors]) {
  T* const c = g.c;
  const T* const add = g.add;
  const int64_t c_row = g.c_row;
  const bool activate = g.activate;
#pragma GCC unroll 2
  for (int v = 0; v < vectors; ++v) {
    const int left = g.cols - v * kLanes<T>, count = left < kLanes<T> ? left : kLanes<T>;
    if (count <= 0) return;
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      const int64_t at = i * c_row + v * kLanes<T>;
      Vector<T> value = acc[i][v];
      if (add) value += load_some(add + at, count);
      if (activate) value = clamp<T>(value, g.low, g.high);
      store_some(c + at, value, count);
    }
  }
}

// `count` rows from `first` on, lanes j of vector v, to c[.. first + i ..][j]: a column of c is contiguous.
template <int first, int count, class T, int rows, int vectors>
FASTCONV_INLINE void store_block_transposed(const GemmTile<T>& g, Vector<T> (&acc)[rows][vectors], int v) {
  constexpr int lanes = kLanes<T>;
  Vector<T> block[lanes] = {};
#pragma GCC unroll 16
  for (int i = 0; i < count; ++i) block[i] = acc[first + i][v];
  transpose<T>(block);
  T* const c = g.c;
  const T* const add = g.add;
  const int64_t c_col = g.c_col;
  const int cols = g.cols;
  const bool activate = g.activate;
#pragma GCC unroll 16
  for (int j = 0; j < lanes; ++j) {
    if (v * lanes + j >= cols) return;
    const int64_t at = (v * lanes + j) * c_col + first;
    Vector<T> value = block[j];
    if (add) value += load_first<count>(add + at);
    if (activate) value = clamp<T>(value, g.low, g.high);
    store_first<count>(c + at, value);
  }
}

template <int first, class T, int rows, int vectors>
FASTCONV_INLINE void store_transposed(const GemmTile<T>& g, Vector<T> (&acc)[rows][vectors]) {
  constexpr int count = rows - first < kLanes<T> ? rows - first : kLanes<T>;
#pragma GCC unroll 2
  for (int v = 0; v < vectors; ++v) store_block_transposed<first, count>(g, acc, v);
  if constexpr (first + count < rows) store_transposed<first + count>(g, acc);
}

// Asks for the lines of the result while the sum runs, so that the stores find them.
template <class T, int rows>
FASTCONV_INLINE void ask_for_result(const GemmTile<T>& g) {
  if (g.row_offset || g.col_offset) return;
  if (g.c_col == 1) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) __builtin_prefetch(g.c + i * g.c_row, 1, 3);
  } else if (g.c_row == 1) {
    for (int j = 0; j < g.cols; ++j) __builtin_prefetch(g.c + j * g.c_col, 1, 3);
  }
}

// The sum. `unit_rows`: the rows of A are neighbours, so that their places need no register.
template <bool unit_rows, class T, int rows, int vectors>
FASTCONV_INLINE void sum_products(const GemmTile<T>& g, Vector<T> (&acc)[rows][vectors]) {
  constexpr int lanes = kLanes<T>;
  const int64_t a_row = unit_rows ? 1 : g.a_row, a_k = g.a_k, b_k = g.b_k;
  // Without a branch: a line that is there costs nothing.
  const T* ask = g.ask ? g.ask : g.b;
  const int64_t ask_step = g.ask ? g.ask_step : 0;
  for (int64_t s = 0; s < g.segments; ++s) {
    const T* a = g.a + (g.a_segment ? g.a_segment[s] : 0);
    const T* b = g.b + (g.b_segment ? g.b_segment[s] : 0);
    for (int64_t k = g.depth; k > 0; --k, a += a_k, b += b_k, ask += ask_step) {
      __builtin_prefetch(ask);
      Vector<T> bv[vectors];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) bv[v] = load(b + v * lanes);
#pragma GCC unroll 16
      for (int i = 0; i < rows; ++i) {
        const Vector<T> av = broadcast(a[i * a_row]);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) acc[i][v] += av * bv[v];
      }
    }
  }
}

template <class T, int rows, int vectors>
void gemm_tile(const GemmTile<T>& g) {
  constexpr int lanes = kLanes<T>;
  ask_for_result<T, rows>(g);
  Vector<T> acc[rows][vectors] = {};
  if (g.a_row == 1)
    sum_products<true>(g, acc);
  else
    sum_products<false>(g, acc);
  const bool placed = !g.row_offset && !g.col_offset;
  const bool full = g.cols == vectors * lanes;
  if (placed && full && g.c_col == 1) {
    add_bias(g, acc);
    store_rows(g, acc);
  } else if (placed && g.c_col == 1) {
    add_bias(g, acc);
    store_some_rows(g, acc);
  } else if (placed && g.c_row == 1) {
    add_bias(g, acc);
    store_transposed<0>(g, acc);
  } else {
    T tile[rows * vectors * lanes];
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) store(tile + (i * vectors + v) * lanes, acc[i][v]);
    finish_scalar(g, tile, rows, vectors * lanes);
  }
}

template <class T, int vectors, int... i>
constexpr void fill(GemmKernel<T>& kernel, Indices<i...>) {
  ((kernel.tile[vectors - 1][i] = gemm_tile<T, i + 1, vectors>), ...);
}

template <class T, int max_rows>
constexpr GemmKernel<T> make_kernel() {
  using Rows = typename MakeIndices<max_rows>::type;
  GemmKernel<T> kernel{kLanes<T>, max_rows, {}};
  fill<T, 1>(kernel, Rows{});
  fill<T, 2>(kernel, Rows{});
  return kernel;
}

}  // namespace
