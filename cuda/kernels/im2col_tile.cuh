// One block of the im2col loop nest: a tile of dst_c x pixels, lowered while it is loaded.
//
//   for tap, for 16 src channels:            two or three stages of cp.async ahead of the multiplication
//     a[k, m] = packed[group][tap][src_c][dst_c]     16 bytes at a time; rows padded to 4 channels with zeros
//     b[k, n] = src[image(n), src_c, position(n, tap)]   4 bytes at a time, zero outside the image
//     c += a b
//   dst[n, m] = what the epilogue makes of c: tile_store.cuh
// Weights are on the M side: a row of c is one channel's pixels, which NCHW stores as they are.
// Shared memory: the stages, used again to store c; then a table of the tile's pixels.
// Preconditions: fits_32_bits(problem); packed is 16-byte aligned.
#pragma once

#include "float_tile.cuh"
#include "tile_store.cuh"

namespace fastconv::cuda {

template <int M, int N, int kStages>
struct Im2colShared {
  static constexpr int kStageA = kDepth * TileShape<M, N>::kStrideA, kStageB = kDepth * TileShape<M, N>::kStrideB;
  static constexpr int kFloats = kStages * (kStageA + kStageB);
  static_assert(kSlab * kSlabStride<N> <= kFloats && kFloats * 4 % 16 == 0);
  static constexpr size_t kBytes = kFloats * sizeof(float) + N * sizeof(TilePixel);
};

// Brings one tile after another into shared memory. Lanes run along the contiguous axis of src: pixels of NCHW (a
// thread keeps one), channels of NHWC (eight, of four pixels a warp: whole sectors, banks shared by two).
template <int M, int N, bool kChannelsLast>
struct Im2colLoader {
  static constexpr int kThreads = TileShape<M, N>::kThreads;
  static constexpr int kPixels = kChannelsLast ? N * 8 / kThreads : 1;
  static constexpr int kChannels = kChannelsLast ? kDepth / 8 : N * kDepth / kThreads;
  static constexpr int kChannelStep = kChannelsLast ? 8 : kThreads / N;

  const DeviceGather& g;
  const TilePixel* table;
  const float* src;     // of the group
  const float* packed;  // of the group, at the tile's first row
  int row_floats, rows_left;
  int tap_d = 0, tap_h = 0, tap_w = 0, channel = 0, k_row = 0;
  const float* source[kPixels] = {};
  bool inside[kPixels] = {};

  __device__ __forceinline__ int pixel(int i) const {
    const int thread = static_cast<int>(threadIdx.x);
    return kChannelsLast ? thread / 8 + i * (kThreads / 8) : thread % N;
  }
  __device__ __forceinline__ int first_channel() const {
    const int thread = static_cast<int>(threadIdx.x);
    return kChannelsLast ? thread % 8 : thread / N;
  }

  // Where the thread's pixels are under the present tap.
  __device__ __forceinline__ void enter_tap() {
#pragma unroll
    for (int i = 0; i < kPixels; ++i) {
      const TilePixel at = table[pixel(i)];
      const int z = at.d + tap_d * static_cast<int>(g.d.offset_step),
                y = at.h + tap_h * static_cast<int>(g.h.offset_step),
                x = at.w + tap_w * static_cast<int>(g.w.offset_step);
      inside[i] = at.dst >= 0 && z >= 0 && z < g.d.src && y >= 0 && y < g.h.src && x >= 0 && x < g.w.src;
      const int64_t offset = at.src + z * g.d.src_stride + y * g.h.src_stride + x * g.w.src_stride;
      source[i] = src + (inside[i] ? offset : 0);
    }
  }

  __device__ __forceinline__ void issue(float* a, float* b) {
    constexpr int kStrideA = TileShape<M, N>::kStrideA, kStrideB = TileShape<M, N>::kStrideB;
    const int src_c = static_cast<int>(g.src_c);
#pragma unroll
    for (int i = 0; i < kDepth * M / 4 / kThreads; ++i) {
      const int chunk = static_cast<int>(threadIdx.x) + i * kThreads, k = chunk / (M / 4), m = chunk % (M / 4) * 4;
      const bool valid = channel + k < src_c && m < rows_left;
      const float* const from = packed + (valid ? int64_t{k_row + k} * row_floats + m : 0);
      ptx::copy_async<16>(a + k * kStrideA + m, from, valid);
    }
#pragma unroll
    for (int i = 0; i < kPixels; ++i)
#pragma unroll
      for (int j = 0; j < kChannels; ++j) {
        const int k = first_channel() + j * kChannelStep;
        const bool valid = inside[i] && channel + k < src_c;
        const float* const from = source[i] + (valid ? (channel + k) * g.src_channel : 0);
        ptx::copy_async<4>(b + k * kStrideB + pixel(i), from, valid);
      }
    advance(src_c);
  }

 private:
  __device__ __forceinline__ void advance(int src_c) {
    channel += kDepth;
    k_row += kDepth;
    if (channel < src_c) return;
    k_row += src_c - channel;
    channel = 0;
    if (++tap_w == g.w.taps) {
      tap_w = 0;
      if (++tap_h == g.h.taps) tap_h = 0, ++tap_d;
    }
    enter_tap();
  }
};

template <class Tile, int M, int N, int kStages, bool kChannelsLast>
__device__ __forceinline__ void im2col_block(const DeviceGather& g, const float* src, const float* packed,
                                             const TileResult<float>& result) {
  using Shared = Im2colShared<M, N, kStages>;
  constexpr int kThreads = TileShape<M, N>::kThreads;
  auto* const stages = reinterpret_cast<float*>(shared_memory());
  auto* const table = reinterpret_cast<TilePixel*>(stages + Shared::kFloats);
  const int group = static_cast<int>(blockIdx.z), first_m = static_cast<int>(blockIdx.y) * M;
  const int dst_c = static_cast<int>(g.dst_c), row_floats = (dst_c + 3) / 4 * 4;

  locate_pixels<N, kThreads>(table, g, static_cast<int>(blockIdx.x) * N);
  __syncthreads();
  Im2colLoader<M, N, kChannelsLast> loader{g,
                                           table,
                                           src + group * g.src_c * g.src_channel,
                                           packed + group * g.taps * g.src_c * row_floats + first_m,
                                           row_floats,
                                           row_floats - first_m};
  loader.enter_tap();
  const int steps = static_cast<int>(g.taps) * ((static_cast<int>(g.src_c) + kDepth - 1) / kDepth);
  Tile tile;
  tile.clear();
  for (int s = 0; s < kStages - 1; ++s) {
    float* const a = stages + s * (Shared::kStageA + Shared::kStageB);
    if (s < steps) loader.issue(a, a + Shared::kStageA);
    ptx::commit_copies();
  }
  for (int step = 0; step < steps; ++step) {
    ptx::wait_copies<kStages - 2>();
    __syncthreads();  // the copies of all threads are there, and the stage that is filled next has been read
    if (step + kStages - 1 < steps) {
      float* const a = stages + (step + kStages - 1) % kStages * (Shared::kStageA + Shared::kStageB);
      loader.issue(a, a + Shared::kStageA);
    }
    ptx::commit_copies();
    const float* const a = stages + step % kStages * (Shared::kStageA + Shared::kStageB);
    tile.multiply(a, a + Shared::kStageA);
  }

  store_tile<float, M, N, kThreads>(g, result, table, stages, tile, group, first_m, kChannelsLast);
}

}  // namespace fastconv::cuda
