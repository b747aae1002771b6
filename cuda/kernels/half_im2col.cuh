// One block of the im2col loop nest over 16-bit elements: a tile of dst_c x pixels, lowered while it is loaded.
//
//   for tap, for 32 src channels:                 two stages ahead of the multiplication
//     a[m, k] = packed[group][tap][dst_c][src_c]       16 bytes at a time; rows padded to 8 channels with zeros
//     b[n, k] = src[image(n), src_c, position(n, tap)] zero outside the image
//     c += a b
//   dst[n, m] = activated(c + bias), or c into the partial sums of this split
// b comes by cp.async, 16 bytes of channels at a time, where channels are last and a multiple of 8. Otherwise there is
// no copy as small as an element: a thread reads one pixel's channels into registers before a multiplication and writes
// them to shared memory after it; lanes are neighbouring pixels.
// Shared memory: the stages, used again for 32 rows of c at a time; then a table of the tile's pixels.
// Preconditions: fits_32_bits(problem); packed is 16-byte aligned, with kVectors src too.
#pragma once

#include "half_tile.cuh"
#include "tile_pixels.cuh"

namespace fastconv::cuda {

template <int M, int N>
struct HalfShared {
  static constexpr int kStages = 3, kStage = (M + N) * kHalfDepth;  // elements
  static constexpr int kSlab = 32, kStrideC = N + 1;                // odd: rows and columns of c meet no bank twice
  static constexpr size_t kStageBytes = kStages * kStage * sizeof(uint16_t);
  static_assert(kSlab * kStrideC * sizeof(float) <= kStageBytes);
  static constexpr size_t kBytes = kStageBytes + N * sizeof(TilePixel);
};

// 16 bytes of channels, a quarter of a pixel's step, at a time.
template <int N>
struct VectorSource {
  static constexpr int kPixels = N * kHalfChunks / kHalfThreads;
  const uint16_t* source[kPixels];
  bool inside[kPixels];

  __device__ __forceinline__ static int pixel(int i) {
    return static_cast<int>(threadIdx.x) / kHalfChunks + i * (kHalfThreads / kHalfChunks);
  }
  __device__ __forceinline__ void enter_tap(const StepWalk<kHalfDepth>& walk, const DeviceGather& g,
                                            const TilePixel* table, const uint16_t* src) {
#pragma unroll
    for (int i = 0; i < kPixels; ++i) {
      const int64_t offset = walk.source_of(g, table[pixel(i)]);
      inside[i] = offset >= 0;
      source[i] = src + (inside[i] ? offset : 0);
    }
  }
  __device__ __forceinline__ void fetch(const StepWalk<kHalfDepth>& walk, const DeviceGather& g, uint16_t* b) {
    const int chunk = static_cast<int>(threadIdx.x) % kHalfChunks, channel = walk.channel + chunk * 8;
#pragma unroll
    for (int i = 0; i < kPixels; ++i) {
      const bool valid = inside[i] && channel < static_cast<int>(g.src_c);
      ptx::copy_async<16>(b + half_place(pixel(i), chunk), source[i] + (valid ? channel : 0), valid);
    }
  }
  __device__ __forceinline__ void deposit(uint16_t*) const {}
};

// One pixel per thread, element by element through registers.
template <int N>
struct ElementSource {
  static constexpr int kChunks = kHalfChunks * N / kHalfThreads;  // of 8 channels
  const uint16_t* source;
  bool inside;
  uint32_t pairs[kChunks][4];

  __device__ __forceinline__ static int pixel() { return static_cast<int>(threadIdx.x) % N; }
  __device__ __forceinline__ static int first_chunk() { return static_cast<int>(threadIdx.x) / N * kChunks; }

  __device__ __forceinline__ void enter_tap(const StepWalk<kHalfDepth>& walk, const DeviceGather& g,
                                            const TilePixel* table, const uint16_t* src) {
    const int64_t offset = walk.source_of(g, table[pixel()]);
    inside = offset >= 0;
    source = src + (inside ? offset : 0);
  }
  __device__ __forceinline__ void fetch(const StepWalk<kHalfDepth>& walk, const DeviceGather& g, uint16_t*) {
    const int first = walk.channel + first_chunk() * 8, left = inside ? static_cast<int>(g.src_c) - first : 0;
    const uint16_t* const from = source + first * g.src_channel;
#pragma unroll
    for (int k = 0; k < kChunks * 8; k += 2) {
      const uint32_t low = k < left ? load_global(from + k * g.src_channel) : uint16_t{0};
      const uint32_t high = k + 1 < left ? load_global(from + (k + 1) * g.src_channel) : uint16_t{0};
      pairs[k / 8][k % 8 / 2] = low | high << 16;
    }
  }
  __device__ __forceinline__ void deposit(uint16_t* b) const {
#pragma unroll
    for (int q = 0; q < kChunks; ++q)
      store_shared(reinterpret_cast<uint4*>(b + half_place(pixel(), first_chunk() + q)),
                   uint4{pairs[q][0], pairs[q][1], pairs[q][2], pairs[q][3]});
  }
};

// Rows of the packed weights.
template <int M>
__device__ __forceinline__ void fetch_weights(const StepWalk<kHalfDepth>& walk, const DeviceGather& g,
                                              const uint16_t* packed, int row_elements, int rows_left, uint16_t* a) {
  const int tap_rows = walk.tap(g) * static_cast<int>(g.dst_c);
#pragma unroll
  for (int i = 0; i < M * kHalfChunks / kHalfThreads; ++i) {
    const int item = static_cast<int>(threadIdx.x) + i * kHalfThreads, m = item / kHalfChunks,
              chunk = item % kHalfChunks, channel = walk.channel + chunk * 8;
    const bool valid = m < rows_left && channel < row_elements;
    const int64_t offset = valid ? int64_t{tap_rows + m} * row_elements + channel : 0;
    ptx::copy_async<16>(a + half_place(m, chunk), packed + offset, valid);
  }
}

// What the tile's sums become.
template <class T>
struct HalfResult {
  const T* bias;      // or null
  const T* residual;  // added before the activation, where dst is; or null
  T* dst;
  float* partial;  // of this split, laid out like dst; or null
  Activation activation;
};

template <class T>
__device__ __forceinline__ float finished(const HalfResult<T>& r, float sum, int64_t channel, int64_t at) {
  if (r.bias) sum += ptx::widen(load_global(r.bias + channel));
  if (r.residual) sum += ptx::widen(load_global(r.residual + at));
  return activated(sum, r.activation);
}

// 32 rows of c, from shared memory to dst: 16 bytes of channels a thread, or lanes along the contiguous axis.
template <class T, int N, bool kChannelsLast>
__device__ __forceinline__ void store_slab(const DeviceGather& g, const HalfResult<T>& r, const TilePixel* table,
                                           const float* c, int64_t group, int first) {
  constexpr int kSlab = HalfShared<64, N>::kSlab, kStride = HalfShared<64, N>::kStrideC;
  const int dst_c = static_cast<int>(g.dst_c);
  if (kChannelsLast && dst_c % 8 == 0 && !r.partial) {
    for (int at = static_cast<int>(threadIdx.x); at < kSlab / 8 * N; at += kHalfThreads) {
      const int row = at % (kSlab / 8) * 8, n = at / (kSlab / 8);
      if (first + row >= dst_c || table[n].dst < 0) continue;
      const int64_t channel = group * dst_c + first + row, to = table[n].dst + channel;
      uint32_t words[4];
#pragma unroll
      for (int i = 0; i < 8; i += 2) {
        const float low = finished(r, load_shared(c + (row + i) * kStride + n), channel + i, to + i),
                    high = finished(r, load_shared(c + (row + i + 1) * kStride + n), channel + i + 1, to + i + 1);
        words[i / 2] = uint32_t{ptx::narrow<T>(low).bits} | uint32_t{ptx::narrow<T>(high).bits} << 16;
      }
      store_global(reinterpret_cast<uint4*>(r.dst + to), uint4{words[0], words[1], words[2], words[3]});
    }
    return;
  }
  for (int at = static_cast<int>(threadIdx.x); at < kSlab * N; at += kHalfThreads) {
    const int row = kChannelsLast ? at % kSlab : at / N, n = kChannelsLast ? at / kSlab : at % N;
    if (first + row >= dst_c || table[n].dst < 0) continue;
    const int64_t channel = group * dst_c + first + row, to = table[n].dst + channel * g.dst_channel;
    const float sum = load_shared(c + row * kStride + n);
    if (r.partial)
      store_global(r.partial + to, sum);
    else
      store_global(r.dst + to, ptx::narrow<T>(finished(r, sum, channel, to)));
  }
}

template <class T, int M, int N, class Source, bool kChannelsLast>
__device__ __forceinline__ void half_im2col_block(const DeviceGather& g, const uint16_t* src, const uint16_t* packed,
                                                  const HalfResult<T>& result, int split, int splits, int group) {
  using Shared = HalfShared<M, N>;
  constexpr int kStages = Shared::kStages;
  auto* const stages = reinterpret_cast<uint16_t*>(shared_memory());
  auto* const table = reinterpret_cast<TilePixel*>(shared_memory() + Shared::kStageBytes);
  const int first_m = static_cast<int>(blockIdx.y) * M, dst_c = static_cast<int>(g.dst_c),
            row_elements = (static_cast<int>(g.src_c) + 7) / 8 * 8;
  locate_pixels<N, kHalfThreads>(table, g, static_cast<int>(blockIdx.x) * N);
  __syncthreads();
  src += group * g.src_c * g.src_channel;
  packed += (int64_t{group} * g.taps * dst_c + first_m) * row_elements;

  StepWalk<kHalfDepth> walk;
  const auto [begin, end] = share_of_steps(walk.steps(g), split, splits);
  walk.seek(g, begin);
  Source source;
  source.enter_tap(walk, g, table, src);
  HalfTile<T, M, N> tile;
  tile.clear();
  const auto stage_of = [&](int step) { return stages + (step - begin) % kStages * Shared::kStage; };
  const auto fetch = [&](int step) {
    if (step < end) {
      fetch_weights<M>(walk, g, packed, row_elements, dst_c - first_m, stage_of(step));
      source.fetch(walk, g, stage_of(step) + M * kHalfDepth);
      if (walk.advance(g) && step + 1 < end) source.enter_tap(walk, g, table, src);
    }
    ptx::commit_copies();
  };
  for (int step = begin; step < begin + kStages - 1; ++step) {
    fetch(step);
    if (step < end) source.deposit(stage_of(step) + M * kHalfDepth);
  }
  for (int step = begin; step < end; ++step) {
    ptx::wait_copies<kStages - 2>();
    __syncthreads();  // the stage of all threads is there, and the stage that is filled next has been read
    const int ahead = step + kStages - 1;
    fetch(ahead);
    tile.multiply(stage_of(step), stage_of(step) + M * kHalfDepth);
    if (ahead < end) source.deposit(stage_of(ahead) + M * kHalfDepth);
  }

  auto* const c = reinterpret_cast<float*>(stages);
#pragma unroll 1
  for (int slab = 0; slab < M; slab += Shared::kSlab) {
    if (first_m + slab >= dst_c) return;
    __syncthreads();
    tile.each([&](int m, int n, float value) {
      if (m >= slab && m < slab + Shared::kSlab) store_shared(c + (m - slab) * Shared::kStrideC + n, value);
    });
    __syncthreads();
    store_slab<T, N, kChannelsLast>(g, result, table, c, group, first_m + slab);
  }
}

}  // namespace fastconv::cuda
