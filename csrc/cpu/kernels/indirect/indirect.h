// Tiles that read their pixels through a table of offsets: nothing is lowered, and a sum may be short.
//
//   y[i][pixel] = act( bias[i] + sum over k < depth of  weights[k][i] * src[place(pixel) + offset[k]]
//                     + add[i][pixel], where there is one )
//
// k runs over the input channels and taps together, so that one loop, and no loop per tap, does the whole sum; for a
// sum of nine terms what stands around the loop decides. One call does `rows` output channels of a whole block of
// pixels. Pixels come as vectors of neighbours, each with its own place in the source and in the result: a tile takes
// any few of them, and rows of an image that are no multiple of a vector leave no tile half empty.
//
//   src       stage or image, element [place + offset[k] + lane]; read a whole vector at a time, unaligned
//   weights   panel  k=0: w(0) w(1) .. w(rows-1) | k=1: ...      as algorithms/weight_panels.h packs it
//   add       null, or what is added to the sums, placed as y is; it may be y
//   y         at dst + vectors[v].dst + i * channel_step + lane * pixel_step
//
// Preconditions: 1 <= rows <= max_rows; depth >= 1; whole vectors of src may be read. Of y only the first `lanes` of
// each vector are written, in the order of the list: what a later vector overlaps is the later one's.
#pragma once

#include <stdint.h>

namespace fastconv {

struct PixelVector {
  int64_t src, dst;
  int64_t lanes;
};

template <class T>
struct IndirectTile {
  const T* src;
  const int64_t* offset;
  int64_t depth;
  const T* weights;
  const T* bias;  // one per row, or null
  const PixelVector* vectors;
  int64_t count;
  const T* add;
  T* dst;
  int64_t channel_step, pixel_step;
  bool activate;  // clamp to [low, high], keeping NaN
  T low, high;
};

constexpr int kIndirectRows = 8;     // of the tallest tile of any ISA
constexpr int kIndirectVectors = 8;  // of the widest

// The same with result channels along the vector, where they are neighbours (channels last):
//
//   y[pixel][i] = act( bias[i] + sum over k < depth of  src[place(pixel) + offset[k]] * weights[k][i] + add[pixel][i] )
//
// and, for groups of `width` channels each, width < lanes, a vector of which holds several groups:
//
//   y[pixel][i] = act( bias[i] + sum over t < depth, s < width of
//                      src[place(pixel) + offset[t] + i - i % width + s] * weights[t][s][i] + add[pixel][i] )
//
//   weights   panel  k=0: w(0) .. w(vectors * lanes - 1) | k=1: ...  0 behind the last channel
//   pixels    `count` of them, and then the last one again up to the next multiple of kIndirectPixels: a tile takes
//             several, and what it computes twice it writes twice
//   bias, add, y   `channels` of them, at most vectors * lanes; nothing behind them is touched. add may be y.
//   src       single elements; by groups whole vectors at a time
struct PixelPlace {
  int64_t src, dst;
};

template <class T>
struct ChannelsTile {
  const T* src;
  const int64_t* offset;
  int64_t depth;
  const T* weights;
  const T* bias;  // or null
  const PixelPlace* pixels;
  int64_t count;
  const T* add;
  T* dst;
  int64_t channels;
  int64_t src_step, dst_step;
  int64_t cut_depth, cut_lanes;
  bool activate;
  T low, high;
};

// The last again for windows three taps wide at stride 1, with the taps of a row in the order of the source: tiles of
// kIndirectPixels neighbours, which share what they read. `depth` counts rows of taps, offset[] their first taps;
// pixel v of run r is read at runs[r].src + v * src_step, written at runs[r].dst + v * dst_step. `count` runs; add
// null.
constexpr int kIndirectPixels = 8;  // of the tallest tile of channels
constexpr int kGroupWidths = 3;     // 2, 4 and 8 channels

// And with source channels along the vector, for at most kSumRows result channels:
//
//   y[pixel][i] = act( bias[i] + sum over k < depth + cut_depth, l < lanes of
//                      src[place(pixel) + offset[k] + l] * weights[k][i][l] + add[pixel][i] )
//
// The last cut_depth vectors of the source have cut_lanes lanes, 0 < cut_lanes < lanes; nothing behind them is read.
constexpr int kSumRows = 4;

template <class T>
struct IndirectKernel {
  int lanes, max_rows;
  int vectors[kIndirectRows];  // per tile, by its rows - 1: for estimates
  void (*run[kIndirectRows])(const IndirectTile<T>&);
  int pixels[2];                                         // of a tile of one and two vectors of channels
  void (*channels[2])(const ChannelsTile<T>&);           // one or two vectors
  void (*groups[kGroupWidths])(const ChannelsTile<T>&);  // one vector; null where a group fills it
  void (*triples[kGroupWidths])(const ChannelsTile<T>&);
  int sum_pixels[kSumRows];  // of a tile, by its channels - 1
  void (*sums[kSumRows])(const ChannelsTile<T>&);
};

struct IndirectKernels {
  IndirectKernel<float> f32;
  IndirectKernel<double> f64;
};

// Defined by the ISA files that this build contains.
extern const IndirectKernels indirect_baseline, indirect_avx2, indirect_avx512, indirect_neon;

}  // namespace fastconv
