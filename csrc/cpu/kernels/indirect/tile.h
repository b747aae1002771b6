// The tiles of indirect.h, once for every ISA; an ISA file sets FASTCONV_VECTOR_BYTES and includes this.
//
//   for vectors of the block, `vectors` at a time:
//     acc[rows][vectors] = bias
//     for k in depth:
//       b[v] = load(place[v] + offset[k])               unaligned
//       for i in rows: acc[i][:] += broadcast(weights[k][i]) * b[:]
//     activation; whole vectors out, or transposed (channels last), or one by one
//
// Register budget: rows * vectors accumulators, the smaller of rows and vectors held, one more passing by (and the
// product where there is no FMA): 6x2 4x3 3x4 2x6 1x8 of 16 registers, 8x3 6x4 4x6 3x8 2x8 of 32. Twelve accumulators
// hide the latency of the multiply-add; each tile's loads, with one for the offset, stay below two a cycle.
// The sum of an element runs over k in order in one accumulator, whatever the tile.
// After: M. Dukhan, The Indirect Convolution Algorithm (2019), which keeps pointers to rows of channels.
#pragma once

#include "../../simd.h"
#include "channels.h"
#include "indirect.h"
#include "sums.h"

namespace {

using fastconv::IndirectKernel;
using fastconv::IndirectTile;
using fastconv::kIndirectRows;
using fastconv::kIndirectVectors;
using fastconv::PixelVector;

#if defined(__FMA__) || defined(__aarch64__)
constexpr int kPassing = 1;
#else
constexpr int kPassing = 2;
#endif
constexpr int kTileRows = kRegisters == 32 ? 8 : 6;

constexpr int vectors_for(int rows) {
  int vectors = kIndirectVectors;
  while (vectors > 1 && rows * vectors + (rows < vectors ? rows : vectors) + kPassing > kRegisters) --vectors;
  return vectors;
}

// Results that are no neighbours: `tile` holds rows x lanes of one vector of pixels.
template <class T, int rows>
__attribute__((noinline)) void scatter(const IndirectTile<T>& g, const PixelVector& px, const T* tile, int64_t row) {
  T* const dst = g.dst + px.dst;
  if (g.channel_step == 1 && rows <= kLanes<T>) {  // channels last: the channels of a pixel are
    constexpr int count = rows < kLanes<T> ? rows : kLanes<T>;
    Vector<T> block[kLanes<T>] = {};
#pragma GCC unroll 16
    for (int i = 0; i < count; ++i) block[i] = load(tile + i * row);
    transpose<T>(block);
#pragma GCC unroll 16
    for (int j = 0; j < kLanes<T>; ++j) {
      if (j >= px.lanes) return;
      store_first<count>(dst + j * g.pixel_step, block[j]);
    }
    return;
  }
  for (int i = 0; i < rows; ++i)
    for (int64_t j = 0; j < px.lanes; ++j) dst[i * g.channel_step + j * g.pixel_step] = tile[i * row + j];
}

// What is added to `rows` results of one vector of pixels.
template <class T, int rows>
__attribute__((noinline)) void gather_added(const IndirectTile<T>& g, const PixelVector& px, T* tile, int64_t row) {
  const T* const add = g.add + px.dst;
  if (g.pixel_step == 1 && px.lanes == kLanes<T>) {
    for (int i = 0; i < rows; ++i) store(tile + i * row, load(add + i * g.channel_step));
    return;
  }
  for (int i = 0; i < rows; ++i)
    for (int64_t j = 0; j < kLanes<T>; ++j)
      tile[i * row + j] = j < px.lanes ? add[i * g.channel_step + j * g.pixel_step] : T{0};
}

template <class T, int rows, int vectors>
FASTCONV_INLINE void add_to_tile(const IndirectTile<T>& g, const PixelVector* px, Vector<T> (&acc)[rows][vectors]) {
  constexpr int width = vectors * kLanes<T>;
  T tile[rows * width];
  for (int v = 0; v < vectors; ++v) gather_added<T, rows>(g, px[v], tile + v * kLanes<T>, width);
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) acc[i][v] += load(tile + i * width + v * kLanes<T>);
}

template <class T, int rows, int vectors>
FASTCONV_INLINE void store_tile(const IndirectTile<T>& g, const PixelVector* px, Vector<T> (&acc)[rows][vectors]) {
  if (g.add) add_to_tile<T, rows, vectors>(g, px, acc);
  if (g.activate)
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) acc[i][v] = clamp<T>(acc[i][v], g.low, g.high);
  if (g.pixel_step == 1) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      T* dst = g.dst + px[v].dst;
      if (px[v].lanes == kLanes<T>) {
#pragma GCC unroll 8
        for (int i = 0; i < rows; ++i) store(dst + i * g.channel_step, acc[i][v]);
      } else {
#pragma GCC unroll 8
        for (int i = 0; i < rows; ++i) store_lanes(dst + i * g.channel_step, acc[i][v], px[v].lanes);
      }
    }
    return;
  }
  T tile[rows * vectors * kLanes<T>];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) store(tile + (i * vectors + v) * kLanes<T>, acc[i][v]);
  for (int v = 0; v < vectors; ++v) scatter<T, rows>(g, px[v], tile + v * kLanes<T>, vectors * kLanes<T>);
}

template <class T, int rows, int vectors>
FASTCONV_INLINE void compute_tile(const IndirectTile<T>& g, const PixelVector* px) {
  Vector<T> acc[rows][vectors];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
    const Vector<T> bias = g.bias ? broadcast(g.bias[i]) : Vector<T>{};
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) acc[i][v] = bias;
  }
  const T* place[vectors];
#pragma GCC unroll 8
  for (int v = 0; v < vectors; ++v) place[v] = g.src + px[v].src;
  const T* w = g.weights;
  const int64_t* offset = g.offset;
  for (int64_t k = g.depth; k > 0; --k, w += rows, ++offset) {
    const int64_t at = *offset;
    if constexpr (rows < vectors) {
      Vector<T> wv[rows];
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) wv[i] = broadcast(w[i]);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) {
        const Vector<T> b = load(place[v] + at);
#pragma GCC unroll 8
        for (int i = 0; i < rows; ++i) acc[i][v] += wv[i] * b;
      }
    } else {
      Vector<T> b[vectors];
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) b[v] = load(place[v] + at);
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) {
        const Vector<T> wv = broadcast(w[i]);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) acc[i][v] += wv * b[v];
      }
    }
  }
  store_tile<T, rows, vectors>(g, px, acc);
}

// The last vectors of a block, fewer than a tile or two.
template <class T, int rows, int vectors>
__attribute__((noinline)) void compute_some(const IndirectTile<T>& g, const PixelVector* px, int64_t count) {
  if (count == vectors)
    compute_tile<T, rows, vectors>(g, px);
  else if constexpr (vectors > 1)
    compute_some<T, rows, vectors - 1>(g, px, count);
}

template <class T, int rows>
void indirect_tile(const IndirectTile<T>& g) {
  constexpr int vectors = vectors_for(rows);
  const int64_t rest = g.count % vectors;
  // What is left is shared by two tiles, so that none is so small that it waits for its own sums.
  const int64_t shared = rest == 0 ? 0 : g.count < vectors ? rest : vectors + rest;
  const PixelVector* px = g.vectors;
  const PixelVector* const end = px + g.count - shared;
  for (; px < end; px += vectors) compute_tile<T, rows, vectors>(g, px);
  if (shared > vectors) {
    compute_some<T, rows, vectors>(g, px, shared - shared / 2);
    compute_some<T, rows, vectors>(g, px + shared - shared / 2, shared / 2);
  } else if (shared > 0) {
    compute_some<T, rows, vectors>(g, px, shared);
  }
}

template <class T, int... i>
constexpr IndirectKernel<T> make_indirect_rows(Indices<i...>) {
  IndirectKernel<T> kernel{kLanes<T>, kTileRows, {}, {}, {}, {}, {}, {}, {}, {}};
  ((kernel.vectors[i] = vectors_for(i + 1), kernel.run[i] = indirect_tile<T, i + 1>), ...);
  return kernel;
}

template <class T>
constexpr IndirectKernel<T> make_indirect_kernel() {
  IndirectKernel<T> kernel = make_indirect_rows<T>(typename MakeIndices<kTileRows>::type{});
  add_channels<T>(kernel);
  add_sums<T>(kernel, typename MakeIndices<kSumRows>::type{});
  return kernel;
}

}  // namespace
