// direct: for few source channels (the first layer of a network), where tiles of 16 channels would be mostly padding.
// Forward and input gradient, any window; float32, float16 and bfloat16 with sums in float32.
//
//   thread: one pixel of dst, 16 of its channels in registers
//     for each tap, for each src channel:  v = src at that place (0 outside);  sums[0..15] += w[k][0..15] * v
// w is staged in shared memory, kDepthChunk rows of 16 floats at a time, and read as 16-byte broadcasts: four reads
// serve 16 multiply-adds. Lanes are neighbouring pixels: NCHW is read and written in whole sectors; NHWC is written 16
// bytes a time where the channels allow. Pooled, a window is four neighbouring lanes, which share out the channels to
// store. grid = (pixels of all images / kThreads, dst_c / 16, groups). Preconditions: fits_32_bits(problem).
#include "../kernels/tile_store.cuh"
#include "../matrix_choice.h"
#include "algorithms.h"

namespace fastconv::cuda {
namespace {

constexpr int kThreads = 128, kChannels = 16, kDepthChunk = 128;

// Rows first .. first + kDepthChunk of the block's weights, k = tap * src_c + channel; zeros beyond the last channel.
template <class T>
__device__ __forceinline__ void stage_weights(float* staged, const DeviceGather& g, const T* w, int first,
                                              int first_c) {
  const int src_c = static_cast<int>(g.src_c), depth = src_c * static_cast<int>(g.taps);
  for (int at = static_cast<int>(threadIdx.x); at < kDepthChunk * kChannels; at += kThreads) {
    const int k = first + at / kChannels, to = first_c + at % kChannels;
    float value = 0;
    if (k < depth && to < g.dst_c) {
      const int tap = k / src_c, width = static_cast<int>(g.w.taps), height = static_cast<int>(g.h.taps);
      value = ptx::widen(load_global(w + to * g.w_dst + k % src_c * g.w_src + g.w_base +
                                     tap / width / height * g.d.w_stride + tap / width % height * g.h.w_stride +
                                     tap % width * g.w.w_stride));
    }
    store_shared(staged + at, value);
  }
}

// The maximum of four neighbouring lanes, in each of them.
__device__ __forceinline__ float most_of_four(float value) {
  value = larger(value, __shfl_xor_sync(0xffffffffu, value, 1));
  return larger(value, __shfl_xor_sync(0xffffffffu, value, 2));
}

// What becomes of a thread's sums, from `at` in dst on, a few channels after the other. Pooled, every lane comes here,
// and each of four stores its part.
template <class T>
__device__ __forceinline__ void store_sums(const DeviceGather& g, const TileResult<T>& result, int64_t at,
                                           int64_t first_dst, int count, const float (&sums)[kChannels], bool live) {
  constexpr int kWide = 16 / static_cast<int>(sizeof(T));
#pragma unroll
  for (int c = 0; c < kChannels; c += kWide) {
    Channels<T, kWide> values{};
#pragma unroll
    for (int i = 0; i < kWide; ++i) {
      float value = sums[c + i];
      if (c + i < count) value = finished(result.epilogue, value, first_dst + c + i, at + (c + i) * g.dst_channel);
      if (g.pooled) value = most_of_four(value);
      values.at[i] = ptx::narrow<T>(value);
    }
    const bool own = !g.pooled || c / kWide == static_cast<int>(threadIdx.x) % 4;
    if (!live || !own || c >= count) continue;
    if (result.wide) {
      store_channels<T, kWide>(result.dst + at + c, values);
      continue;
    }
#pragma unroll
    for (int i = 0; i < kWide; ++i)
      if (c + i < count) store_global(result.dst + at + (c + i) * g.dst_channel, values.at[i]);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, 4) direct(DeviceGather g, const T* src, const T* w, TileResult<T> result) {
  auto* const staged = reinterpret_cast<float*>(shared_memory());
  const int group = static_cast<int>(blockIdx.z), first_c = static_cast<int>(blockIdx.y) * kChannels;
  const int src_c = static_cast<int>(g.src_c), pixels = static_cast<int>(g.pixels);
  const int item = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  const bool live = item < static_cast<int>(g.batch) * pixels;  // every thread stays: all of them stage weights
  const int image = live ? item / pixels : 0, pixel = live ? item % pixels : 0;
  const PixelPlace j = place_of_pixel(g, pixel);
  const T* const weights = w + group * g.w_group;
  const T* const sources = src + image * g.src_image + group * g.src_c * g.src_channel;

  float sums[kChannels];
#pragma unroll
  for (int c = 0; c < kChannels; ++c) sums[c] = 0;
  int k = 0;
  for (int td = 0; td < g.d.taps; ++td)
    for (int th = 0; th < g.h.taps; ++th)
      for (int tw = 0; tw < g.w.taps; ++tw) {
        const int z = static_cast<int>(j.d * g.d.src_step + g.d.offset + td * g.d.offset_step),
                  y = static_cast<int>(j.h * g.h.src_step + g.h.offset + th * g.h.offset_step),
                  x = static_cast<int>(j.w * g.w.src_step + g.w.offset + tw * g.w.offset_step);
        const bool inside = live && z >= 0 && z < g.d.src && y >= 0 && y < g.h.src && x >= 0 && x < g.w.src;
        const T* const from = sources + (inside ? z * g.d.src_stride + y * g.h.src_stride + x * g.w.src_stride : 0);
        for (int c = 0; c < src_c; ++c, ++k) {
          if (k % kDepthChunk == 0) {
            __syncthreads();  // the rows before have been read
            stage_weights<T>(staged, g, weights, k, first_c);
            __syncthreads();
          }
          const float value = inside ? ptx::widen(load_global(from + c * g.src_channel)) : 0.0f;
          const auto* const row = reinterpret_cast<const float4*>(staged + k % kDepthChunk * kChannels);
#pragma unroll
          for (int quad = 0; quad < kChannels / 4; ++quad) {
            const float4 v = load_shared(row + quad);
            sums[4 * quad] += v.x * value, sums[4 * quad + 1] += v.y * value;
            sums[4 * quad + 2] += v.z * value, sums[4 * quad + 3] += v.w * value;
          }
        }
      }
  if (!live && !g.pooled) return;
  const int64_t first_dst = int64_t{group} * g.dst_c + first_c;
  store_sums<T>(g, result, image * g.dst_image + place_in_dst(g, j) + first_dst * g.dst_channel, first_dst,
                min(kChannels, static_cast<int>(g.dst_c) - first_c), sums, live);
}

}  // namespace

Support direct_supports(const ConvProblem& p, const Target& t) {
  if (t.element == Element::float64) return {"the dtype is float64"};
  if (p.direction == Direction::weight_gradient) return {"it has no weight gradient"};
  if (t.pooled && p.has_residual) return {"a residual has the shape of a result that is not pooled"};
  const bool forward = p.direction == Direction::forward;
  const int64_t src_c = forward ? p.in_c_group() : p.out_c_group(), dst_c = forward ? p.out_c_group() : p.in_c_group();
  if (src_c * p.taps() > INT32_MAX) return {"a sum has 2^31 terms or more"};
  if (dst_c > int64_t{kMostBlocksYZ} * kChannels) return {"too many channels for a grid"};
  return fits_32_bits(p);
}

// A warp's term of 16 channels: 16 multiply-adds, against four broadcasts and a load at one a cycle; finding the place
// of a tap is shared by few channels.
double direct_cost(const ConvProblem& p, const Target& t, int) {
  const Rates rates = rates_of(t.device.arch);
  const bool forward = p.direction == Direction::forward;
  const double dst_c = double(forward ? p.out_c_group() : p.in_c_group()),
               src_c = double(forward ? p.in_c_group() : p.out_c_group());
  double cycles = 0;
  for (const Gather& g : make_gathers(p)) {
    const double warps = divided(double(p.batch * g.pixels()), 32) * divided(dst_c, kChannels) * double(p.groups),
                 term = std::max(16 * 32 / rates.fma, 5.0), place = 15 * 32 / rates.fma;
    const double each = divided(warps, 4.0 * t.device.multiprocessors) * 4;
    cycles +=
        std::max(each * double(g.taps()) * (src_c * term + place) + kFillCycles, memory_cycles(array_bytes(p, t), t)) +
        kLaunchCycles;
  }
  return cycles;
}

void direct_prepare(ConvPlan&) {}

void direct_pack(const ConvPlan&, const void*, void*, Stream&) {}

void direct_run(const ConvPlan& plan, const ConvOperands& operands, std::byte*, Stream& stream) {
  const ConvProblem& p = plan.problem;
  const bool forward = p.direction == Direction::forward;
  if (!covers_result(plan.gathers)) fill_uncovered(plan, operands, stream);
  visit_element(plan.element, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (sizeof(T) < 8) {
      for (const Gather& gather : plan.gathers) {
        const DeviceGather g = plan.pooled ? pooled_gather(device_gather(p, gather)) : device_gather(p, gather);
        const dim3 grid(static_cast<unsigned>((g.batch * g.pixels + kThreads - 1) / kThreads),
                        static_cast<unsigned>((g.dst_c + kChannels - 1) / kChannels), static_cast<unsigned>(g.groups));
        auto* const dst = static_cast<T*>(forward ? operands.y : operands.x);
        launch("direct", direct<T>, grid, kThreads, kDepthChunk * kChannels * sizeof(float), stream, g,
               static_cast<const T*>(forward ? operands.x : operands.y), static_cast<const T*>(operands.w),
               tile_result<T>(g, epilogue_of<T>(p, operands), dst, nullptr));
      }
    }
  });
}

}  // namespace fastconv::cuda
