// direct: for few source channels (the first layer of a network), where tiles of 16 channels would be mostly padding.
// Forward and input gradient, any window.
//
//   thread: one pixel of dst, 16 of its channels in registers
//     for each tap, for each src channel:  v = src at that place (0 outside);  sums[0..15] += w[k][0..15] * v
// w is staged in shared memory, kDepthChunk rows of 16 at a time, and read as 16-byte broadcasts: four reads serve
// 16 multiply-adds. Lanes are neighbouring pixels: NCHW is read and written in whole sectors; NHWC is written 16 bytes
// a time where the channels allow.
// grid = (pixels of all images / kThreads, dst_c / 16, groups). Preconditions: fits_32_bits(problem).
#include "../kernels/geometry.cuh"
#include "algorithms.h"

namespace fastconv::cuda {
namespace {

constexpr int kThreads = 128, kChannels = 16, kDepthChunk = 128;

// Rows first .. first + kDepthChunk of the block's weights, k = tap * src_c + channel; zeros beyond the last channel.
__device__ __forceinline__ void stage_weights(float* staged, const DeviceGather& g, const float* w, int first,
                                              int first_c) {
  const int src_c = static_cast<int>(g.src_c), depth = src_c * static_cast<int>(g.taps);
  for (int at = static_cast<int>(threadIdx.x); at < kDepthChunk * kChannels; at += kThreads) {
    const int k = first + at / kChannels, to = first_c + at % kChannels;
    float value = 0;
    if (k < depth && to < g.dst_c) {
      const int tap = k / src_c, width = static_cast<int>(g.w.taps), height = static_cast<int>(g.h.taps);
      value = load_global(w + to * g.w_dst + k % src_c * g.w_src + g.w_base + tap / width / height * g.d.w_stride +
                          tap / width % height * g.h.w_stride + tap % width * g.w.w_stride);
    }
    store_shared(staged + at, value);
  }
}

__device__ __forceinline__ void store_channels(float* at, const float (&sums)[kChannels], int count,
                                               int64_t channel_stride, bool vectors) {
  if (vectors) {
#pragma unroll
    for (int c = 0; c < kChannels; c += 4)
      if (c < count)
        store_global(reinterpret_cast<float4*>(at + c), float4{sums[c], sums[c + 1], sums[c + 2], sums[c + 3]});
    return;
  }
#pragma unroll
  for (int c = 0; c < kChannels; ++c)
    if (c < count) store_global(at + c * channel_stride, sums[c]);
}

__global__ void __launch_bounds__(kThreads) direct(DeviceGather g, const float* src, const float* w, const float* bias,
                                                   float* dst, Activation activation, bool wide) {
  auto* const staged = reinterpret_cast<float*>(shared_memory());
  const int group = static_cast<int>(blockIdx.z), first_c = static_cast<int>(blockIdx.y) * kChannels;
  const int src_c = static_cast<int>(g.src_c), pixels = static_cast<int>(g.pixels);
  const int item = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  const bool live = item < static_cast<int>(g.batch) * pixels;  // every thread stays: all of them stage weights
  const int image = live ? item / pixels : 0, pixel = live ? item % pixels : 0;
  const int width = static_cast<int>(g.w.dst), height = static_cast<int>(g.h.dst);
  const int jw = pixel % width, jh = pixel / width % height, jd = pixel / width / height;
  const float* const weights = w + group * g.w_group;
  const float* const sources = src + image * g.src_image + group * g.src_c * g.src_channel;

  float sums[kChannels];
#pragma unroll
  for (int c = 0; c < kChannels; ++c) sums[c] = 0;
  int k = 0;
  for (int td = 0; td < g.d.taps; ++td)
    for (int th = 0; th < g.h.taps; ++th)
      for (int tw = 0; tw < g.w.taps; ++tw) {
        const int z = static_cast<int>(jd * g.d.src_step + g.d.offset + td * g.d.offset_step),
                  y = static_cast<int>(jh * g.h.src_step + g.h.offset + th * g.h.offset_step),
                  x = static_cast<int>(jw * g.w.src_step + g.w.offset + tw * g.w.offset_step);
        const bool inside = live && z >= 0 && z < g.d.src && y >= 0 && y < g.h.src && x >= 0 && x < g.w.src;
        const float* const from = sources + (inside ? z * g.d.src_stride + y * g.h.src_stride + x * g.w.src_stride : 0);
        for (int c = 0; c < src_c; ++c, ++k) {
          if (k % kDepthChunk == 0) {
            __syncthreads();  // the rows before have been read
            stage_weights(staged, g, weights, k, first_c);
            __syncthreads();
          }
          const float value = inside ? load_global(from + c * g.src_channel) : 0.0f;
          const auto* const row = reinterpret_cast<const float4*>(staged + k % kDepthChunk * kChannels);
#pragma unroll
          for (int quad = 0; quad < kChannels / 4; ++quad) {
            const float4 v = load_shared(row + quad);
            sums[4 * quad] += v.x * value, sums[4 * quad + 1] += v.y * value;
            sums[4 * quad + 2] += v.z * value, sums[4 * quad + 3] += v.w * value;
          }
        }
      }
  if (!live) return;
  const int64_t first_dst = int64_t{group} * g.dst_c + first_c;
  const int count = min(kChannels, static_cast<int>(g.dst_c) - first_c);
#pragma unroll
  for (int c = 0; c < kChannels; ++c)
    if (c < count) sums[c] = activated(sums[c] + (bias ? load_global(bias + first_dst + c) : 0.0f), activation);
  store_channels(dst + image * g.dst_image + g.dst_base + jd * g.d.dst_stride + jh * g.h.dst_stride +
                     jw * g.w.dst_stride + first_dst * g.dst_channel,
                 sums, count, g.dst_channel, wide);
}

}  // namespace

Support direct_supports(const ConvProblem& p, const Device&) {
  if (p.dtype != DType::float32) return {"the dtype is not float32"};
  if (p.direction == Direction::weight_gradient) return {"it has no weight gradient"};
  const bool forward = p.direction == Direction::forward;
  const int64_t src_c = forward ? p.in_c_group() : p.out_c_group(), dst_c = forward ? p.out_c_group() : p.in_c_group();
  if (src_c * p.taps() > INT32_MAX) return {"a sum has 2^31 terms or more"};
  if (dst_c > int64_t{kMostBlocksYZ} * kChannels) return {"too many channels for a grid"};
  return fits_32_bits(p);
}

// Whole groups of 16 channels; its multiply-adds take their operands from further away than those of im2col's tiles.
double direct_cost(const ConvProblem& p, const Device&, int) {
  const int64_t dst_c = p.direction == Direction::forward ? p.out_c_group() : p.in_c_group();
  const int64_t padded = (dst_c + kChannels - 1) / kChannels * kChannels;
  return 3 * p.flops() * static_cast<double>(padded) / static_cast<double>(dst_c);
}

void direct_prepare(ConvPlan&) {}

void direct_pack(const ConvPlan&, const void*, void*, Stream&) {}

void direct_run(const ConvPlan& plan, const ConvOperands& operands, std::byte*, Stream& stream) {
  const ConvProblem& p = plan.problem;
  const bool forward = p.direction == Direction::forward;
  auto* const dst = static_cast<float*>(forward ? operands.y : operands.x);
  if (!covers_result(plan.gathers)) fill_uncovered(plan, operands, stream);
  for (const Gather& gather : plan.gathers) {
    const DeviceGather g = device_gather(p, gather);
    const dim3 grid(static_cast<unsigned>((g.batch * g.pixels + kThreads - 1) / kThreads),
                    static_cast<unsigned>((g.dst_c + kChannels - 1) / kChannels), static_cast<unsigned>(g.groups));
    launch("direct", direct, grid, kThreads, kDepthChunk * kChannels * sizeof(float), stream, g,
           static_cast<const float*>(forward ? operands.x : operands.y), static_cast<const float*>(operands.w),
           static_cast<const float*>(operands.bias), dst, p.activation,
           g.channels_last && g.dst_c % 4 == 0 && aligned_16(dst));
  }
}

}  // namespace fastconv::cuda
