// The weight gradient of im2col on tensor cores: float16, bfloat16, and float32 as one or three products of tf32.
//
//   c[m = out_c, n = in_c] = sum over pixels k of  y[m, k] * x[n, position(k, tap)]     for each group and tap
// The sum runs over pixels, 32 or 16 a step, so rows of both tiles are pixels of one channel. They pass through
// registers, one step ahead of the multiplication, since one pixel's channels (NHWC) or one channel's pixels (NCHW,
// moved by the tap) are seldom whole and aligned 16 bytes of a row:
//   NCHW   lanes are the step's pixels; a thread reads every fourth (eighth) channel and writes its element of each row
//   NHWC   lanes are channels; a warp reads one chunk of pixels, a thread writes whole chunks of two rows
// Shared memory: two stages; two tables of the step's pixels, filled two steps ahead.
// grid = (taps * in_c / 64, out_c / 64, groups * splits). Preconditions: fits_32_bits(problem).
#include "../kernels/geometry.cuh"
#include "../kernels/mma_tile.cuh"
#include "../kernels/tile_pixels.cuh"
#include "algorithms.h"

namespace fastconv::cuda {
namespace {

constexpr int kTile = kGradientTile;

// Offsets in y and x; negative beyond the last pixel, and where the tap lies outside x.
struct alignas(16) PixelPair {
  int64_t y, x;
};

template <class Op>
struct GradientShared {
  static constexpr int kStage = 2 * kTile * kStep<Op>;  // elements
  static constexpr size_t kStageBytes = 2 * kStage * sizeof(StorageOf<Op>);
  static constexpr size_t kBytes = kStageBytes + 2 * kStep<Op> * sizeof(PixelPair);
};

struct Tap {
  int d, h, w;
};

template <int kPixels>
__device__ __forceinline__ void locate(PixelPair* table, const DeviceGather& g, int step, const Tap& tap) {
  const int k = static_cast<int>(threadIdx.x);
  if (k >= kPixels) return;
  const int pixels = static_cast<int>(g.pixels), item = step * kPixels + k;
  PixelPair at{-1, -1};
  if (item < static_cast<int>(g.batch) * pixels) {
    const int image = item / pixels;
    const PixelPlace j = place_of_pixel(g, item % pixels);
    const int64_t z = j.d * g.d.src_step + g.d.offset + tap.d * g.d.offset_step,
                  v = j.h * g.h.src_step + g.h.offset + tap.h * g.h.offset_step,
                  u = j.w * g.w.src_step + g.w.offset + tap.w * g.w.offset_step;
    const bool inside = z >= 0 && z < g.d.src && v >= 0 && v < g.h.src && u >= 0 && u < g.w.src;
    if (inside) {  // elsewhere the product is with zero, whatever y is
      at.y = image * g.dst_image + place_in_dst(g, j);
      at.x = image * g.src_image + z * g.d.src_stride + v * g.h.src_stride + u * g.w.src_stride;
    }
  }
  table[k] = at;
}

// One step's elements of y and x, held by this thread.
template <class Op, bool kChannelsLast>
struct Held {
  using T = StorageOf<Op>;
  static constexpr int kCount = kTile * kStep<Op> / kMmaThreads, kLanes = kChannelsLast ? 32 : kStep<Op>;
  static constexpr int kRowStep = kChannelsLast ? 32 : kMmaThreads / kLanes;
  T y[kCount], x[kCount];

  __device__ __forceinline__ static int thread() { return static_cast<int>(threadIdx.x); }
  // Element i: NCHW row i of this thread, always the same pixel; NHWC pixel i of a chunk, then of the second row.
  __device__ __forceinline__ static int row(int i) {
    return kChannelsLast ? thread() % 32 + i / kChunk<Op> * 32 : thread() / kLanes + i * kRowStep;
  }
  __device__ __forceinline__ static int pixel(int i) {
    return kChannelsLast ? thread() / 32 * kChunk<Op> + i % kChunk<Op> : thread() % kLanes;
  }

  __device__ __forceinline__ void fetch(const PixelPair* table, const DeviceGather& g, const T* from_y, const T* from_x,
                                        int rows, int columns) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const PixelPair at = table[pixel(i)];
      const int m = row(i);
      y[i] = at.y >= 0 && m < rows ? load_global(from_y + at.y + m * g.dst_channel) : T{0};
      x[i] = at.x >= 0 && m < columns ? load_global(from_x + at.x + m * g.src_channel) : T{0};
    }
  }

  __device__ __forceinline__ void deposit(T* a, T* b) const {
    if constexpr (kChannelsLast) {
      constexpr int kChunkElements = kChunk<Op>;
#pragma unroll
      for (int i = 0; i < kCount; i += kChunkElements) {
        Channels<T, kChunkElements> left, right;
#pragma unroll
        for (int e = 0; e < kChunkElements; ++e) left.at[e] = y[i + e], right.at[e] = x[i + e];
        const int place = chunk_place<Op>(row(i), thread() / 32);
        store_shared(reinterpret_cast<Channels<T, kChunkElements>*>(a + place), left);
        store_shared(reinterpret_cast<Channels<T, kChunkElements>*>(b + place), right);
      }
    } else {
      const int chunk = pixel(0) / kChunk<Op>, within = pixel(0) % kChunk<Op>;
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const int place = chunk_place<Op>(row(i), chunk) + within;
        store_shared(a + place, y[i]);
        store_shared(b + place, x[i]);
      }
    }
  }
};

template <class Op, bool kChannelsLast>
__global__ void __launch_bounds__(kMmaThreads, 3)
    weight_gradient_mma(DeviceGather g, const StorageOf<Op>* x, const StorageOf<Op>* y, ElementOf<Op>* w,
                        float* partials, int splits) {
  using Shared = GradientShared<Op>;
  constexpr int kPixels = kStep<Op>;
  auto* const stages = reinterpret_cast<StorageOf<Op>*>(shared_memory());
  auto* const tables = reinterpret_cast<PixelPair*>(shared_memory() + Shared::kStageBytes);
  const int taps = static_cast<int>(g.taps), tap = static_cast<int>(blockIdx.x) % taps,
            first_n = static_cast<int>(blockIdx.x) / taps * kTile, first_m = static_cast<int>(blockIdx.y) * kTile;
  const int groups = static_cast<int>(g.groups), group = static_cast<int>(blockIdx.z) % groups,
            split = static_cast<int>(blockIdx.z) / groups;
  const int across = static_cast<int>(g.w.taps), down = static_cast<int>(g.h.taps);
  const Tap at{tap / across / down, tap / across % down, tap % across};
  const int rows = static_cast<int>(g.dst_c) - first_m, columns = static_cast<int>(g.src_c) - first_n;
  x += (group * g.src_c + first_n) * g.src_channel;
  y += (group * g.dst_c + first_m) * g.dst_channel;
  const auto [begin, end] =
      share_of_steps(static_cast<int>((g.batch * g.pixels + kPixels - 1) / kPixels), split, splits);

  Held<Op, kChannelsLast> held;
  MmaTile<Op, kTile, kTile> tile;
  tile.clear();
  locate<kPixels>(tables + begin % 2 * kPixels, g, begin, at);
  locate<kPixels>(tables + (begin + 1) % 2 * kPixels, g, begin + 1, at);
  __syncthreads();
  held.fetch(tables + begin % 2 * kPixels, g, y, x, rows, columns);
  held.deposit(stages + begin % 2 * Shared::kStage, stages + begin % 2 * Shared::kStage + kTile * kPixels);
  for (int step = begin; step < end; ++step) {
    StorageOf<Op>* const now = stages + step % 2 * Shared::kStage;
    StorageOf<Op>* const next = stages + (step + 1) % 2 * Shared::kStage;
    __syncthreads();  // this step's rows and the next one's table are there; the other stage and table have been read
    if (step + 1 < end) held.fetch(tables + (step + 1) % 2 * kPixels, g, y, x, rows, columns);
    locate<kPixels>(tables + step % 2 * kPixels, g, step + 2, at);
    tile.multiply(now, now + kTile * kPixels);
    if (step + 1 < end) held.deposit(next, next + kTile * kPixels);
  }
  const int64_t first = group * g.w_group + first_m * g.w_dst + first_n * g.w_src + tap;
  float* const sums = partials ? partials + split * groups * g.w_group + first : nullptr;
  tile.each([&](int m, int n, float value) {
    if (m >= rows || n >= columns) return;
    const int64_t to = m * g.w_dst + n * g.w_src;
    if (sums)
      store_global(sums + to, value);
    else
      store_global(w + first + to, ptx::narrow<ElementOf<Op>>(value));
  });
}

template <class Op>
void launch_gradient(const DeviceGather& g, const ConvOperands& operands, float* partials, int splits, Stream& stream) {
  const dim3 grid(static_cast<unsigned>(g.taps * ((g.src_c + kTile - 1) / kTile)),
                  static_cast<unsigned>((g.dst_c + kTile - 1) / kTile), static_cast<unsigned>(g.groups * splits));
  const auto kernel = g.channels_last ? weight_gradient_mma<Op, true> : weight_gradient_mma<Op, false>;
  launch("weight_gradient_mma", kernel, grid, kMmaThreads, GradientShared<Op>::kBytes, stream, g,
         static_cast<const StorageOf<Op>*>(operands.x), static_cast<const StorageOf<Op>*>(operands.y),
         static_cast<ElementOf<Op>*>(operands.w), partials, splits);
}

}  // namespace

void weight_gradient_mma_run(const ConvPlan& plan, const ConvOperands& operands, float* partials, Stream& stream) {
  const DeviceGather g = device_gather(plan.problem, plan.gathers[0]);
  if (plan.element == Element::float16)
    launch_gradient<half16>(g, operands, partials, plan.splits, stream);
  else if (plan.element == Element::bfloat16)
    launch_gradient<bfloat16>(g, operands, partials, plan.splits, stream);
  else if (plan.precision == Precision::tf32)
    launch_gradient<Tf32>(g, operands, partials, plan.splits, stream);
  else
    launch_gradient<Tf32x3>(g, operands, partials, plan.splits, stream);
}

}  // namespace fastconv::cuda
