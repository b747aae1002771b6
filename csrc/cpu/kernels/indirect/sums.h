// The tiles of indirect.h with source channels along the vector, for few result channels; tile.h includes this.
//
//   for pixels of the list, `pixels` at a time:
//     acc[pixels][rows] = 0 (vectors)
//     for k in depth:                                          a vector of channels of one tap
//       w[i] = load(weights[k][i])
//       for j in pixels: x = load(src[place[j] + offset[k]]);  acc[j][:] += x * w[:]
//     the same for the last channels of each tap, where they fill no vector
//     lanes added up, `lanes` accumulators at a time; bias, activation; the channels of each pixel out
//
// No lane multiplies a channel that is not there, neither of the source nor of the result.
// Register budget: 8x1 6x2 4x3 3x4 accumulators of 16 registers, the rows' weights and one vector passing by; a
// processor without FMA or with 32 registers takes the same.
// The lanes are added up in one order, whatever the tile.
#pragma once

#include "../../simd.h"
#include "indirect.h"

namespace {

using fastconv::ChannelsTile;
using fastconv::IndirectKernel;
using fastconv::kSumRows;
using fastconv::PixelPlace;

constexpr int sum_pixels(int rows) { return rows == 1 ? 8 : 12 / rows; }

// Loaded once: as the operand of two multiply-adds it would be read twice.
template <class V>
FASTCONV_INLINE V held(V v) {
#if defined(__x86_64__) && FASTCONV_VECTOR_BYTES < 64
  asm("" : "+x"(v));
#endif
  return v;
}

template <class T, int pixels, int rows, class Load>
FASTCONV_INLINE void add_products(Vector<T> (&acc)[pixels * rows], const T* const (&place)[pixels], const T* w,
                                  const int64_t* offset, int64_t depth, Load load_channels) {
  for (int64_t k = 0; k < depth; ++k, w += rows * kLanes<T>) {
    Vector<T> wv[rows];
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) wv[i] = load(w + i * kLanes<T>);
#pragma GCC unroll 8
    for (int j = 0; j < pixels; ++j) {
      const Vector<T> loaded = load_channels(place[j] + offset[k]), x = rows > 1 ? held(loaded) : loaded;
#pragma GCC unroll 4
      for (int i = 0; i < rows; ++i) acc[j * rows + i] += x * wv[i];
    }
  }
}

template <class T, int rows>
void sums_tile(const ChannelsTile<T>& g) {
  constexpr int pixels = sum_pixels(rows), count = pixels * rows, lanes = kLanes<T>;
  constexpr int padded = (count + lanes - 1) / lanes * lanes;
  T bias[padded] = {}, sums[padded] = {};
  for (int i = 0; i < count; ++i) bias[i] = g.bias ? g.bias[i % rows] : T{0};
  for (const PixelPlace *px = g.pixels, *const end = px + g.count; px < end; px += pixels) {
    Vector<T> acc[count] = {};
    const T* place[pixels];
#pragma GCC unroll 8
    for (int j = 0; j < pixels; ++j) place[j] = g.src + px[j].src;
    add_products<T, pixels, rows>(acc, place, g.weights, g.offset, g.depth, [](const T* p) { return load(p); });
    if (g.cut_depth) {
      const int cut = (int)g.cut_lanes;
      add_products<T, pixels, rows>(acc, place, g.weights + g.depth * rows * lanes, g.offset + g.depth, g.cut_depth,
                                    [cut](const T* p) { return load_some(p, cut); });
    }
    if (g.add)  // all of it is read before anything is written: a pixel may be there twice
      for (int i = 0; i < count; ++i) sums[i] = g.add[px[i / rows].dst + i % rows];
#pragma GCC unroll 16
    for (int first = 0; first < count; first += lanes) {
      Vector<T> block[lanes] = {};
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i)
        if (first + i < count) block[i] = acc[first + i];
      fold_lanes<1, T>(block);
      Vector<T> total = block[0] + load(bias + first);
      if (g.add) total += load(sums + first);
      if (g.activate) total = clamp<T>(total, g.low, g.high);
      store(sums + first, total);
    }
#pragma GCC unroll 8
    for (int j = 0; j < pixels; ++j) __builtin_memcpy(g.dst + px[j].dst, sums + j * rows, rows * sizeof(T));
  }
}

template <class T, int... i>
constexpr void add_sums(IndirectKernel<T>& kernel, Indices<i...>) {
  ((kernel.sum_pixels[i] = sum_pixels(i + 1), kernel.sums[i] = sums_tile<T, i + 1>), ...);
}

}  // namespace
