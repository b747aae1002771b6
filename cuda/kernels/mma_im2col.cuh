// One block of the im2col loop nest on tensor cores: a tile of dst_c x pixels, lowered while it is loaded.
//
//   for tap, for a step of src channels:               two stages ahead of the multiplication
//     a[m, k] = packed[group][tap][dst_c][src_c]       16 bytes at a time; rows padded to whole chunks with zeros
//     b[n, k] = src[image(n), src_c, position(n, tap)] zero outside the image
//     c += a b
//   dst[n, m] = what the epilogue makes of c, or c into the partial sums of this split: tile_store.cuh
// b comes by cp.async, 16 bytes of channels at a time, where channels are last and whole chunks; of one tap in NCHW, 16
// bytes of pixels at a time, where planes are whole chunks (mma_tile.cuh, kPlanes). Otherwise a
// thread reads one pixel's channels into registers before a multiplication and writes
// them to shared memory after it; lanes are neighbouring pixels.
// Shared memory: the stages, used again to store c; then a table of the tile's pixels.
// Preconditions: fits_32_bits(problem); packed is 16-byte aligned, but with ElementSource src too, with result.wide
// dst; with PlaneSource the one tap lies inside everywhere, and planes have whole chunks of pixels that are neighbours.
#pragma once

#include "mma_tile.cuh"
#include "tile_store.cuh"

namespace fastconv::cuda {

template <class Op, int M, int N, bool kPlanes>
struct MmaShared {
  static constexpr int kStages = 3, kStage = (M + N + (kPlanes ? kPlanePad : 0)) * kStep<Op>;  // elements
  static constexpr size_t kStageBytes = kStages * kStage * sizeof(StorageOf<Op>);
  static_assert(kSlab * kSlabStride<N> * sizeof(float) <= kStageBytes);
  static constexpr size_t kBytes = kStageBytes + N * sizeof(TilePixel);
};

// 16 bytes of channels, a quarter of a pixel's step, at a time.
template <class Op, int N>
struct VectorSource {
  static constexpr bool kPlanes = false;
  __device__ __forceinline__ static bool channels_last(const DeviceGather&) { return true; }
  static constexpr int kPixels = N * kMmaChunks / kMmaThreads;
  const StorageOf<Op>* source[kPixels];
  bool inside[kPixels];

  __device__ __forceinline__ static int pixel(int i) {
    return static_cast<int>(threadIdx.x) / kMmaChunks + i * (kMmaThreads / kMmaChunks);
  }
  __device__ __forceinline__ void enter_tap(const StepWalk<kStep<Op>>& walk, const DeviceGather& g,
                                            const TilePixel* table, const StorageOf<Op>* src) {
#pragma unroll
    for (int i = 0; i < kPixels; ++i) {
      const int64_t offset = walk.source_of(g, table[pixel(i)]);
      inside[i] = offset >= 0;
      source[i] = src + (inside[i] ? offset : 0);
    }
  }
  __device__ __forceinline__ void fetch(const StepWalk<kStep<Op>>& walk, const DeviceGather& g, StorageOf<Op>* b) {
    const int chunk = static_cast<int>(threadIdx.x) % kMmaChunks, channel = walk.channel + chunk * kChunk<Op>;
#pragma unroll
    for (int i = 0; i < kPixels; ++i) {
      const bool valid = inside[i] && channel < static_cast<int>(g.src_c);
      ptx::copy_async<16>(b + chunk_place<Op>(pixel(i), chunk), source[i] + (valid ? channel : 0), valid);
    }
  }
  __device__ __forceinline__ void deposit(StorageOf<Op>*) const {}
};

// One pixel per thread, element by element through registers; of both layouts, so that there is one kernel less.
template <class Op, int N>
struct ElementSource {
  static constexpr bool kPlanes = false;
  __device__ __forceinline__ static bool channels_last(const DeviceGather& g) { return g.channels_last; }
  static constexpr int kChunks = kMmaChunks * N / kMmaThreads;  // of this thread
  const StorageOf<Op>* source;
  bool inside;
  uint32_t words[kChunks][4];

  __device__ __forceinline__ static int pixel() { return static_cast<int>(threadIdx.x) % N; }
  __device__ __forceinline__ static int first_chunk() { return static_cast<int>(threadIdx.x) / N * kChunks; }

  __device__ __forceinline__ void enter_tap(const StepWalk<kStep<Op>>& walk, const DeviceGather& g,
                                            const TilePixel* table, const StorageOf<Op>* src) {
    const int64_t offset = walk.source_of(g, table[pixel()]);
    inside = offset >= 0;
    source = src + (inside ? offset : 0);
  }
  __device__ __forceinline__ void fetch(const StepWalk<kStep<Op>>& walk, const DeviceGather& g, StorageOf<Op>*) {
    const int first = walk.channel + first_chunk() * kChunk<Op>, left = inside ? static_cast<int>(g.src_c) - first : 0;
    const StorageOf<Op>* const from = source + first * g.src_channel;
    constexpr int kInWord = 4 / static_cast<int>(sizeof(StorageOf<Op>));
#pragma unroll
    for (int word = 0; word < kChunks * 4; ++word) {
      uint32_t bits = 0;
#pragma unroll
      for (int k = word * kInWord; k < (word + 1) * kInWord; ++k) {
        const StorageOf<Op> value = k < left ? load_global(from + k * g.src_channel) : StorageOf<Op>{0};
        bits |= uint32_t{value} << k % kInWord * 16;
      }
      words[word / 4][word % 4] = bits;
    }
  }
  __device__ __forceinline__ void deposit(StorageOf<Op>* b) const {
#pragma unroll
    for (int q = 0; q < kChunks; ++q)
      store_shared(reinterpret_cast<uint4*>(b + chunk_place<Op>(pixel(), first_chunk() + q)),
                   uint4{words[q][0], words[q][1], words[q][2], words[q][3]});
  }
};

// 16 bytes of pixels of one channel at a time; a thread keeps its pixels.
template <class Op, int N>
struct PlaneSource {
  static constexpr bool kPlanes = true;
  __device__ __forceinline__ static bool channels_last(const DeviceGather&) { return false; }
  static constexpr int kAcross = N / kChunk<Op>, kRows = kMmaThreads / kAcross;  // chunks of a row; rows at a time
  const StorageOf<Op>* source;
  bool inside;

  __device__ __forceinline__ static int pixel() { return static_cast<int>(threadIdx.x) % kAcross * kChunk<Op>; }
  __device__ __forceinline__ static int first_row() { return static_cast<int>(threadIdx.x) / kAcross; }
  __device__ __forceinline__ void enter_tap(const StepWalk<kStep<Op>>& walk, const DeviceGather& g,
                                            const TilePixel* table, const StorageOf<Op>* src) {
    const int64_t offset = walk.source_of(g, table[pixel()]);
    inside = offset >= 0;
    source = src + (inside ? offset : 0);
  }
  __device__ __forceinline__ void fetch(const StepWalk<kStep<Op>>& walk, const DeviceGather& g, StorageOf<Op>* b) {
    const int first = walk.channel + first_row(), left = inside ? static_cast<int>(g.src_c) - walk.channel : 0;
    const StorageOf<Op>* const from = source + first * g.src_channel;
#pragma unroll
    for (int row = 0; row < kStep<Op>; row += kRows) {
      const bool valid = first_row() + row < left;
      ptx::copy_async<16>(b + (first_row() + row) * (N + kPlanePad) + pixel(),
                          valid ? from + row * g.src_channel : source, valid);
    }
  }
  __device__ __forceinline__ void deposit(StorageOf<Op>*) const {}
};

// Rows of the packed weights.
template <class Op, int M>
__device__ __forceinline__ void fetch_weights(const StepWalk<kStep<Op>>& walk, const DeviceGather& g,
                                              const StorageOf<Op>* packed, int row_elements, int rows_left,
                                              StorageOf<Op>* a) {
  const int64_t tap_rows = int64_t{walk.tap(g)} * g.dst_c;
#pragma unroll
  for (int i = 0; i < M * kMmaChunks / kMmaThreads; ++i) {
    const int item = static_cast<int>(threadIdx.x) + i * kMmaThreads, m = item / kMmaChunks, chunk = item % kMmaChunks,
              channel = walk.channel + chunk * kChunk<Op>;
    const bool valid = m < rows_left && channel < row_elements;
    const int64_t offset = valid ? (tap_rows + m) * row_elements + channel : 0;
    ptx::copy_async<16>(a + chunk_place<Op>(m, chunk), packed + offset, valid);
  }
}

template <class Op, int M, int N, class Source>
__device__ __forceinline__ void mma_im2col_block(const DeviceGather& g, const StorageOf<Op>* src,
                                                 const StorageOf<Op>* packed, const TileResult<ElementOf<Op>>& result,
                                                 int split, int splits, int group) {
  using Shared = MmaShared<Op, M, N, Source::kPlanes>;
  constexpr int kStages = Shared::kStages;
  auto* const stages = reinterpret_cast<StorageOf<Op>*>(shared_memory());
  auto* const table = reinterpret_cast<TilePixel*>(shared_memory() + Shared::kStageBytes);
  const int first_m = static_cast<int>(blockIdx.y) * M, dst_c = static_cast<int>(g.dst_c),
            row_elements = (static_cast<int>(g.src_c) + kChunk<Op> - 1) / kChunk<Op> * kChunk<Op>;
  locate_pixels<N, kMmaThreads>(table, g, static_cast<int>(blockIdx.x) * N);
  __syncthreads();
  src += group * g.src_c * g.src_channel;
  packed += (int64_t{group} * g.taps * dst_c + first_m) * row_elements;

  StepWalk<kStep<Op>> walk;
  const auto [begin, end] = share_of_steps(walk.steps(g), split, splits);
  walk.seek(g, begin);
  Source source;
  source.enter_tap(walk, g, table, src);
  MmaTile<Op, M, N> tile;
  tile.clear();
  const auto stage_of = [&](int step) { return stages + (step - begin) % kStages * Shared::kStage; };
  const auto fetch = [&](int step) {
    if (step < end) {
      fetch_weights<Op, M>(walk, g, packed, row_elements, dst_c - first_m, stage_of(step));
      source.fetch(walk, g, stage_of(step) + M * kStep<Op>);
      if (walk.advance(g) && step + 1 < end) source.enter_tap(walk, g, table, src);
    }
    ptx::commit_copies();
  };
  for (int step = begin; step < begin + kStages - 1; ++step) {
    fetch(step);
    if (step < end) source.deposit(stage_of(step) + M * kStep<Op>);
  }
  for (int step = begin; step < end; ++step) {
    ptx::wait_copies<kStages - 2>();
    __syncthreads();  // the stage of all threads is there, and the stage that is filled next has been read
    const int ahead = step + kStages - 1;
    fetch(ahead);
    tile.template multiply<Source::kPlanes>(stage_of(step), stage_of(step) + M * kStep<Op>);
    if (ahead < end) source.deposit(stage_of(ahead) + M * kStep<Op>);
  }

  store_tile<ElementOf<Op>, M, N, kMmaThreads>(g, result, table, reinterpret_cast<float*>(stages), tile, group, first_m,
                                               Source::channels_last(g));
}

}  // namespace fastconv::cuda
