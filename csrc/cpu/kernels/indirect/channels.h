// The tiles of indirect.h with result channels along the vector, once for every ISA; tile.h includes this.
//
//   for pixels of the list, `rows` at a time:
//     acc[rows][vectors] = bias
//     for k in depth:
//       w[v] = load(weights[k])                                aligned or not
//       for i in rows: acc[i][:] += broadcast(src[place[i] + offset[k]]) * w[:]
//     activation; vectors out, of the last one as many lanes as there are channels
//
// Register budget: 6x2 or 8x1 accumulators of 16 registers, 8x2 of 32, the vectors of weights and one broadcast (and
// the product where there is no FMA). More pixels would not find registers for their addresses. One vector alone is
// bound by its loads.
// Groups narrower than a vector: each lane takes its group's element s out of the loaded vector, one shuffle per
// multiply-add, and only the weights that there are are multiplied; a block-diagonal panel would be mostly zeros.
// The sum of an element runs in one accumulator, in the order of the panel.
//
// Tried and lost: asking ahead for the lines of the result; 24 or 48 pixels with all channels inside, instead of panel
// by panel; blocks of 8 to 64 KB instead of half of L2; all vectors of eight pixels of a group loaded ahead, which
// spills.
#pragma once

#include "../../simd.h"
#include "indirect.h"

namespace {

using fastconv::ChannelsTile;
using fastconv::IndirectKernel;
using fastconv::kIndirectPixels;
using fastconv::PixelPlace;

#if FASTCONV_VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr int kRegisters = 32;
#else
constexpr int kRegisters = 16;
#endif

// Pixels of a tile of so many vectors.
constexpr int pixels_for(int vectors) { return kRegisters == 32 || vectors == 1 ? 8 : 6; }

template <class T>
FASTCONV_INLINE void store_lanes(T* p, Vector<T> v, int64_t count) {
#if FASTCONV_VECTOR_BYTES == 64
  store_some(p, v, (int)count);
#else  // by halves: masked stores are slow on some processors that have them
  T lanes[kLanes<T>];
  store(lanes, v);
  int64_t done = 0;
  if (kLanes<T> > 4 && (count & 4)) __builtin_memcpy(p, lanes, 4 * sizeof(T)), done = 4;
  if (count & 2) __builtin_memcpy(p + done, lanes + done, 2 * sizeof(T)), done += 2;
  if (count & 1) p[done] = lanes[done];
#endif
}

template <class T>
FASTCONV_INLINE Vector<T> load_lanes(const T* p, int64_t count) {
  return count == kLanes<T> ? load(p) : load_some(p, (int)count);
}

// `last` lanes of the last vector are there.
template <class T, int rows, int vectors>
FASTCONV_INLINE void store_pixels(const ChannelsTile<T>& g, const PixelPlace* px, int64_t last,
                                  Vector<T> (&acc)[rows][vectors]) {
  constexpr int end = (vectors - 1) * kLanes<T>;
  if (g.add)  // all of it is read before anything is written: a pixel may be there twice
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      const T* const add = g.add + px[i].dst;
#pragma GCC unroll 2
      for (int v = 0; v + 1 < vectors; ++v) acc[i][v] += load(add + v * kLanes<T>);
      acc[i][vectors - 1] += load_lanes(add + end, last);
    }
  if (g.activate)
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) acc[i][v] = clamp<T>(acc[i][v], g.low, g.high);
  if (last == kLanes<T>) {
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) store(g.dst + px[i].dst + v * kLanes<T>, acc[i][v]);
    return;
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
    T* const dst = g.dst + px[i].dst;
#pragma GCC unroll 2
    for (int v = 0; v + 1 < vectors; ++v) store(dst + v * kLanes<T>, acc[i][v]);
    store_lanes(dst + end, acc[i][vectors - 1], last);
  }
}

template <class T, int vectors>
struct ChannelVectors {
  Vector<T> of[vectors];
};

template <class T, int vectors>
FASTCONV_INLINE ChannelVectors<T, vectors> load_bias(const ChannelsTile<T>& g, int64_t last) {
  ChannelVectors<T, vectors> bias{};
  if (!g.bias) return bias;
#pragma GCC unroll 2
  for (int v = 0; v + 1 < vectors; ++v) bias.of[v] = load(g.bias + v * kLanes<T>);
  bias.of[vectors - 1] = load_lanes(g.bias + (vectors - 1) * kLanes<T>, last);
  return bias;
}

template <class T, int vectors>
void channels_tile(const ChannelsTile<T>& g) {
  constexpr int rows = pixels_for(vectors);
  const int64_t last = g.channels - (vectors - 1) * kLanes<T>;
  const ChannelVectors<T, vectors> bias = load_bias<T, vectors>(g, last);
  const PixelPlace* const end = g.pixels + g.count;
  for (const PixelPlace* px = g.pixels; px < end; px += rows) {
    Vector<T> acc[rows][vectors];
    const T* place[rows];
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      place[i] = g.src + px[i].src;
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) acc[i][v] = bias.of[v];
    }
    const T* w = g.weights;
    const int64_t* offset = g.offset;
    for (int64_t k = g.depth; k > 0; --k, w += vectors * kLanes<T>, ++offset) {
      const int64_t at = *offset;
      Vector<T> wv[vectors];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) wv[v] = load(w + v * kLanes<T>);
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) {
        const Vector<T> b = broadcast(place[i][at]);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) acc[i][v] += b * wv[v];
      }
    }
    store_pixels<T, rows, vectors>(g, px, last, acc);
  }
}

// Lane i of the result is lane i - i % width + s.
template <int width, int s, class V, int... i>
FASTCONV_INLINE V of_group(V v, Indices<i...>) {
  return __builtin_shufflevector(v, v, (i - i % width + s)...);
}

template <class T, int width, int s = 0>
FASTCONV_INLINE Vector<T> add_group(Vector<T> acc, Vector<T> x, const Vector<T> (&w)[width]) {
  if constexpr (s == width) return acc;
  if constexpr (s < width)
    return add_group<T, width, s + 1>(acc + of_group<width, s>(x, typename MakeIndices<kLanes<T>>::type{}) * w[s], x,
                                      w);
}

template <class T, int width>
void groups_tile(const ChannelsTile<T>& g) {
  constexpr int rows = pixels_for(1);
  const ChannelVectors<T, 1> bias = load_bias<T, 1>(g, g.channels);
  const PixelPlace* const end = g.pixels + g.count;
  for (const PixelPlace* px = g.pixels; px < end; px += rows) {
    Vector<T> acc[rows][1];
    const T* place[rows];
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      place[i] = g.src + px[i].src;
      acc[i][0] = bias.of[0];
    }
    const T* w = g.weights;
    const int64_t* offset = g.offset;
    for (int64_t k = g.depth; k > 0; --k, w += width * kLanes<T>, ++offset) {
      const int64_t at = *offset;
      Vector<T> wv[width];
#pragma GCC unroll 8
      for (int j = 0; j < width; ++j) wv[j] = load(w + j * kLanes<T>);
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) acc[i][0] = add_group<T, width>(acc[i][0], load(place[i] + at), wv);
    }
    store_pixels<T, rows, 1>(g, px, g.channels, acc);
  }
}

// One row of three taps, channel s of the groups and those behind it. A source pixel, shuffled once, goes to the three
// results that read it. The barrier keeps the loads of the channels apart: kept in registers they would be spilled.
template <class T, int width, int s = 0>
FASTCONV_INLINE void add_triple(Vector<T> (&acc)[kIndirectPixels][1], const T* x, int64_t step, const T* w) {
  constexpr int n = kLanes<T>;
  if constexpr (s < width) {
    asm("" : "+r"(x));
    const Vector<T> w0 = load(w + s * n), w1 = load(w + (width + s) * n), w2 = load(w + (2 * width + s) * n);
#pragma GCC unroll 16
    for (int m = 0; m < kIndirectPixels + 2; ++m) {
      const Vector<T> v = of_group<width, s>(load(x + m * step), typename MakeIndices<n>::type{});
      if (m < kIndirectPixels) acc[m][0] += v * w0;
      if (m >= 1 && m < kIndirectPixels + 1) acc[m - 1][0] += v * w1;
      if (m >= 2) acc[m - 2][0] += v * w2;
    }
    add_triple<T, width, s + 1>(acc, x, step, w);
  }
}

template <class T, int width>
void triples_tile(const ChannelsTile<T>& g) {
  const ChannelVectors<T, 1> bias = load_bias<T, 1>(g, g.channels);
  for (const PixelPlace* run = g.pixels; run < g.pixels + g.count; ++run) {
    Vector<T> acc[kIndirectPixels][1];
    PixelPlace px[kIndirectPixels];
#pragma GCC unroll 8
    for (int i = 0; i < kIndirectPixels; ++i) px[i] = {0, run->dst + i * g.dst_step}, acc[i][0] = bias.of[0];
    const T* w = g.weights;
    for (int64_t k = 0; k < g.depth; ++k, w += 3 * width * kLanes<T>)
      add_triple<T, width>(acc, g.src + run->src + g.offset[k], g.src_step, w);
    store_pixels<T, kIndirectPixels, 1>(g, px, g.channels, acc);
  }
}

template <class T>
constexpr void add_channels(IndirectKernel<T>& kernel) {
  kernel.pixels[0] = pixels_for(1), kernel.pixels[1] = pixels_for(2);
  kernel.channels[0] = channels_tile<T, 1>, kernel.channels[1] = channels_tile<T, 2>;
  if constexpr (kLanes<T> > 2) kernel.groups[0] = groups_tile<T, 2>, kernel.triples[0] = triples_tile<T, 2>;
  if constexpr (kLanes<T> > 4) kernel.groups[1] = groups_tile<T, 4>, kernel.triples[1] = triples_tile<T, 4>;
  if constexpr (kLanes<T> > 8) kernel.groups[2] = groups_tile<T, 8>, kernel.triples[2] = triples_tile<T, 8>;
}

}  // namespace
