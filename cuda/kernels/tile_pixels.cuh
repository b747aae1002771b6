// The pixels of a block's tile: what the im2col loop nests of all element types share.
#pragma once

#include "geometry.cuh"

namespace fastconv::cuda {

struct TilePixel {
  int64_t src, dst;  // offsets of the image, and of the place to write; dst < 0 beyond the last pixel
  int d, h, w, unused;
};

// Fills the table: pixel n of the tile is pixel first + n of all images.
template <int N, int kThreads>
__device__ __forceinline__ void locate_pixels(TilePixel* table, const DeviceGather& g, int first) {
  for (int n = static_cast<int>(threadIdx.x); n < N; n += kThreads) {
    const int pixels = static_cast<int>(g.pixels), item = first + n;
    TilePixel at{0, -1, 0, 0, 0, 0};
    if (item < static_cast<int>(g.batch) * pixels) {
      const int image = item / pixels, pixel = item % pixels;
      const PixelPlace j = place_of_pixel(g, pixel);
      at.src = image * g.src_image;
      at.dst = image * g.dst_image + place_in_dst(g, j);
      at.d = j.d * static_cast<int>(g.d.src_step) + static_cast<int>(g.d.offset);
      at.h = j.h * static_cast<int>(g.h.src_step) + static_cast<int>(g.h.offset);
      at.w = j.w * static_cast<int>(g.w.src_step) + static_cast<int>(g.w.offset);
    }
    table[n] = at;
  }
}

// The taps and blocks of source channels that a block walks, one step after another.
template <int kStepChannels>
struct StepWalk {
  int tap_d = 0, tap_h = 0, tap_w = 0, channel = 0;

  __device__ __forceinline__ static int blocks(const DeviceGather& g) {
    return (static_cast<int>(g.src_c) + kStepChannels - 1) / kStepChannels;
  }
  __device__ __forceinline__ static int steps(const DeviceGather& g) { return static_cast<int>(g.taps) * blocks(g); }
  __device__ __forceinline__ int tap(const DeviceGather& g) const {
    return (tap_d * static_cast<int>(g.h.taps) + tap_h) * static_cast<int>(g.w.taps) + tap_w;
  }
  __device__ __forceinline__ void seek(const DeviceGather& g, int step) {
    const int tap = step / blocks(g), width = static_cast<int>(g.w.taps), height = static_cast<int>(g.h.taps);
    channel = step % blocks(g) * kStepChannels;
    tap_w = tap % width, tap_h = tap / width % height, tap_d = tap / width / height;
  }
  // Returns whether a new tap begins.
  __device__ __forceinline__ bool advance(const DeviceGather& g) {
    channel += kStepChannels;
    if (channel < static_cast<int>(g.src_c)) return false;
    channel = 0;
    if (++tap_w == g.w.taps) {
      tap_w = 0;
      if (++tap_h == g.h.taps) tap_h = 0, ++tap_d;
    }
    return true;
  }
  // Offset of a pixel's source under the present tap, or -1 outside the image.
  __device__ __forceinline__ int64_t source_of(const DeviceGather& g, const TilePixel& at) const {
    const int z = at.d + tap_d * static_cast<int>(g.d.offset_step),
              y = at.h + tap_h * static_cast<int>(g.h.offset_step),
              x = at.w + tap_w * static_cast<int>(g.w.offset_step);
    const bool inside = at.dst >= 0 && z >= 0 && z < g.d.src && y >= 0 && y < g.h.src && x >= 0 && x < g.w.src;
    return inside ? at.src + z * g.d.src_stride + y * g.h.src_stride + x * g.w.src_stride : -1;
  }
};

// Steps begin .. end of `splits` shares.
struct StepRange {
  int begin, end;
};
__device__ __forceinline__ StepRange share_of_steps(int steps, int split, int splits) {
  return {static_cast<int>(int64_t{steps} * split / splits), static_cast<int>(int64_t{steps} * (split + 1) / splits)};
}

}  // namespace fastconv::cuda
