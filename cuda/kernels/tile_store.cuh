// The sums of a block's tile become results: what the im2col loop nests of all element types share.
//
//   for 32 rows of c at a time:  registers -> shared memory -> dst, lanes along the contiguous axis of dst
//     a row of c is one channel; NCHW stores its pixels, NHWC its neighbours at one pixel, 16 bytes a thread where
//     `wide` pooled: four neighbouring columns of c are one window, of whose results the maximum is stored
#pragma once

#include "../launch.h"
#include "epilogue.cuh"
#include "tile_pixels.cuh"

namespace fastconv::cuda {

constexpr int kSlab = 32;
template <int N>
constexpr int kSlabStride = N + 1;  // odd: neither rows nor columns of c meet in a bank

template <class T>
struct TileResult {
  Epilogue<T> epilogue;
  T* dst;
  float* partial;  // the sums of this split, laid out like dst, instead; or null
  bool wide;       // channels are last and whole 16 bytes, and dst and residual are aligned to them
};

template <class T>
TileResult<T> tile_result(const DeviceGather& g, const Epilogue<T>& epilogue, T* dst, float* partial) {
  constexpr int kWide = 16 / static_cast<int>(sizeof(T));
  return {epilogue, dst, partial,
          g.channels_last && g.dst_c % kWide == 0 && aligned_16(dst) && aligned_16(epilogue.residual)};
}

// The larger one; NaN of either.
template <class T>
__device__ __forceinline__ T larger(T a, T b) {
  return b > a || b != b ? b : a;
}

template <class T, int N, int kThreads>
__device__ __forceinline__ void store_wide(const DeviceGather& g, const TileResult<T>& r, const TilePixel* table,
                                           const float* c, int64_t group, int first) {
  constexpr int kWide = 16 / static_cast<int>(sizeof(T)), kRows = kSlab / kWide;
  static_assert(kThreads % kRows == 0);  // a thread keeps its channels
  const int row = static_cast<int>(threadIdx.x) % kRows * kWide;
  if (first + row >= static_cast<int>(g.dst_c)) return;
  const int64_t channel = group * g.dst_c + first + row;
  float bias[kWide];
#pragma unroll
  for (int i = 0; i < kWide; ++i)
    bias[i] = r.epilogue.bias ? ptx::widen(load_global(r.epilogue.bias + channel + i)) : 0.0f;
  for (int n = static_cast<int>(threadIdx.x) / kRows; n < N; n += kThreads / kRows) {
    if (table[n].dst < 0) continue;
    const int64_t to = table[n].dst + channel;
    Channels<T, kWide> values{};
    if (r.epilogue.residual) values = load_channels<T, kWide>(r.epilogue.residual + to);
#pragma unroll
    for (int i = 0; i < kWide; ++i) {
      float sum = load_shared(c + (row + i) * kSlabStride<N> + n) + bias[i];
      if (r.epilogue.residual) sum += ptx::widen(values.at[i]);
      values.at[i] = ptx::narrow<T>(activated(sum, r.epilogue.activation));
    }
    store_channels<T, kWide>(r.dst + to, values);
  }
}

template <class T, int N, int kThreads>
__device__ __forceinline__ void store_pooled(const DeviceGather& g, const TileResult<T>& r, const TilePixel* table,
                                             const float* c, int64_t group, int first, bool last) {
  constexpr int kWindows = N / 4;
  for (int at = static_cast<int>(threadIdx.x); at < kSlab * kWindows; at += kThreads) {
    const int row = last ? at % kSlab : at / kWindows, n = (last ? at / kSlab : at % kWindows) * 4;
    if (first + row >= static_cast<int>(g.dst_c) || table[n].dst < 0) continue;
    const int64_t channel = group * g.dst_c + first + row;
    float most = -static_cast<float>(__builtin_inf());
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int turned = (i + n / 32) % 4;  // so that the windows of a warp meet 32 banks
      const float sum = load_shared(c + row * kSlabStride<N> + n + turned);
      most = larger(most, finished(r.epilogue, sum, channel, 0));
    }
    store_global(r.dst + table[n].dst + channel * g.dst_channel, ptx::narrow<T>(most));
  }
}

template <class T, int N, int kThreads>
__device__ __forceinline__ void store_elements(const DeviceGather& g, const TileResult<T>& r, const TilePixel* table,
                                               const float* c, int64_t group, int first, bool last) {
  for (int at = static_cast<int>(threadIdx.x); at < kSlab * N; at += kThreads) {
    const int row = last ? at % kSlab : at / N, n = last ? at / kSlab : at % N;
    if (first + row >= static_cast<int>(g.dst_c) || table[n].dst < 0) continue;
    const int64_t channel = group * g.dst_c + first + row, to = table[n].dst + channel * g.dst_channel;
    const float sum = load_shared(c + row * kSlabStride<N> + n);
    if (r.partial)
      store_global(r.partial + to, sum);
    else
      store_global(r.dst + to, ptx::narrow<T>(finished(r.epilogue, sum, channel, to)));
  }
}

// `slab` is shared memory for kSlab rows of c, which all threads may still be reading; `last`: channels are last.
template <class T, int M, int N, int kThreads, class Tile>
__device__ __forceinline__ void store_tile(const DeviceGather& g, const TileResult<T>& r, const TilePixel* table,
                                           float* slab, const Tile& tile, int64_t group, int first_m, bool last) {
#pragma unroll 1
  for (int top = 0; top < M; top += kSlab) {
    if (first_m + top >= static_cast<int>(g.dst_c)) return;
    __syncthreads();
    tile.each([&](int m, int n, float value) {
      if (m >= top && m < top + kSlab) store_shared(slab + (m - top) * kSlabStride<N> + n, value);
    });
    __syncthreads();
    if (g.pooled)
      store_pooled<T, N, kThreads>(g, r, table, slab, group, first_m + top, last);
    else if (last && r.wide && !r.partial)
      store_wide<T, N, kThreads>(g, r, table, slab, group, first_m + top);
    else
      store_elements<T, N, kThreads>(g, r, table, slab, group, first_m + top, last);
  }
}

}  // namespace fastconv::cuda
