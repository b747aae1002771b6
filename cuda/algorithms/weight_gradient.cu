// The weight gradient of im2col: a matrix product over the pixels of all images, lowered while it is loaded. Here stand
// the loop nest of fused multiply-adds, float32, and the sum of splits; weight_gradient_mma.cu is on tensor cores.
//
//   c[m = out_c, n = in_c] = sum over pixels k of  y[k, m] * x[position(k, tap), n]     for each group and tap
//   partial[split] = c of the split's share of the pixels; then w = partial[0] + partial[1] + ... in this order
// grid = (taps * in_c / 64, out_c / 64, groups * splits). Few weights and many pixels are the rule, so the pixels are
// split until every multiprocessor has two blocks; the sum's order follows from the plan, never from the clock.
// Shared memory: three stages of y and x; two tables of 16 pixels, filled a step ahead.
// Preconditions: fits_32_bits(problem).
#include "../kernels/float_tile.cuh"
#include "../kernels/geometry.cuh"
#include "../matrix_choice.h"
#include "algorithms.h"

namespace fastconv::cuda {
namespace {

constexpr int kTile = kGradientTile, kStages = 3, kThreads = TileShape<kTile, kTile>::kThreads, kSumThreads = 128;
constexpr int kStride = kTile + kPad, kStage = 2 * kDepth * kStride;
constexpr int kMostGradientSplits = 64;

struct PixelPair {
  int64_t x, y;
  bool x_inside, live;
};
constexpr size_t kShared = kStages * kStage * sizeof(float) + 2 * kDepth * sizeof(PixelPair);

// Sixteen threads: where the pixels of one step are in x (under the block's tap) and in y.
__device__ __forceinline__ void locate(PixelPair* table, const DeviceGather& g, int step, int td, int th, int tw) {
  const int k = static_cast<int>(threadIdx.x);
  if (k >= kDepth) return;
  const int pixels = static_cast<int>(g.pixels), item = step * kDepth + k;
  PixelPair at{0, 0, false, item < static_cast<int>(g.batch) * pixels};
  if (at.live) {
    const int image = item / pixels, pixel = item % pixels;
    const int width = static_cast<int>(g.w.dst), height = static_cast<int>(g.h.dst);
    const int jw = pixel % width, jh = pixel / width % height, jd = pixel / width / height;
    const int64_t z = jd * g.d.src_step + g.d.offset + td * g.d.offset_step,
                  v = jh * g.h.src_step + g.h.offset + th * g.h.offset_step,
                  u = jw * g.w.src_step + g.w.offset + tw * g.w.offset_step;
    at.x_inside = z >= 0 && z < g.d.src && v >= 0 && v < g.h.src && u >= 0 && u < g.w.src;
    at.y = image * g.dst_image + jd * g.d.dst_stride + jh * g.h.dst_stride + jw * g.w.dst_stride;
    if (at.x_inside) at.x = image * g.src_image + z * g.d.src_stride + v * g.h.src_stride + u * g.w.src_stride;
  }
  table[k] = at;
}

// Lanes run along the contiguous axis: eight pixels of four channels a warp for NCHW, channels for NHWC.
template <bool kChannelsLast>
__device__ __forceinline__ void issue(float* a, float* b, const PixelPair* table, const DeviceGather& g, const float* x,
                                      const float* y, int rows, int columns) {
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int i = 0; i < kDepth * kTile / kThreads; ++i) {
    const int k = kChannelsLast ? thread / kTile + i * (kThreads / kTile) : thread % 8 + i % 2 * 8;
    const int c = kChannelsLast ? thread % kTile : thread / 8 + i / 2 * (kThreads / 8);
    const PixelPair at = table[k];
    const bool from_y = at.live && c < rows, from_x = at.x_inside && c < columns;
    ptx::copy_async<4>(a + k * kStride + c, y + (from_y ? at.y + c * g.dst_channel : 0), from_y);
    ptx::copy_async<4>(b + k * kStride + c, x + (from_x ? at.x + c * g.src_channel : 0), from_x);
  }
}

template <bool kChannelsLast>
__global__ void __launch_bounds__(kThreads, 3)
    weight_gradient(DeviceGather g, const float* x, const float* y, float* partials, int splits) {
  auto* const stages = reinterpret_cast<float*>(shared_memory());
  auto* const tables = reinterpret_cast<PixelPair*>(stages + kStages * kStage);
  const int taps = static_cast<int>(g.taps), tap = static_cast<int>(blockIdx.x) % taps,
            first_n = static_cast<int>(blockIdx.x) / taps * kTile, first_m = static_cast<int>(blockIdx.y) * kTile;
  const int groups = static_cast<int>(g.groups), group = static_cast<int>(blockIdx.z) % groups,
            split = static_cast<int>(blockIdx.z) / groups;
  const int tw = tap % static_cast<int>(g.w.taps), th = tap / static_cast<int>(g.w.taps) % static_cast<int>(g.h.taps),
            td = tap / static_cast<int>(g.w.taps) / static_cast<int>(g.h.taps);
  const int rows = static_cast<int>(g.dst_c) - first_m, columns = static_cast<int>(g.src_c) - first_n;
  x += (group * g.src_c + first_n) * g.src_channel;
  y += (group * g.dst_c + first_m) * g.dst_channel;
  const int64_t all = (g.batch * g.pixels + kDepth - 1) / kDepth;
  const int begin = static_cast<int>(all * split / splits), end = static_cast<int>(all * (split + 1) / splits);

  const auto stage_of = [&](int step) { return stages + (step - begin) % kStages * kStage; };
  const auto bring = [&](int step) {
    float* const a = stage_of(step);
    if (step < end) issue<kChannelsLast>(a, a + kDepth * kStride, tables + step % 2 * kDepth, g, x, y, rows, columns);
    ptx::commit_copies();
  };
  SimtTile<kTile, kTile> tile;
  tile.clear();
  locate(tables + begin % 2 * kDepth, g, begin, td, th, tw);
  for (int step = begin; step < begin + kStages - 1; ++step) {
    __syncthreads();
    bring(step);
    locate(tables + (step + 1) % 2 * kDepth, g, step + 1, td, th, tw);
  }
  for (int step = begin; step < end; ++step) {
    ptx::wait_copies<kStages - 2>();
    __syncthreads();  // the copies and the table of all threads are there; the stage that is filled next has been read
    const int ahead = step + kStages - 1;
    bring(ahead);
    locate(tables + (ahead + 1) % 2 * kDepth, g, ahead + 1, td, th, tw);
    const float* const a = stage_of(step);
    tile.multiply(a, a + kDepth * kStride);
  }
  float* const w =
      partials + split * groups * g.w_group + group * g.w_group + first_m * g.w_dst + first_n * g.w_src + tap;
  tile.each([&](int m, int n, float value) {
    if (m < rows && n < columns) store_global(w + m * g.w_dst + n * g.w_src, value);
  });
}

template <class T>
__global__ void __launch_bounds__(kSumThreads) sum_splits(const float* partials, T* w, int64_t count, int splits) {
  for (int64_t at = int64_t{blockIdx.x} * kSumThreads + threadIdx.x; at < count;
       at += int64_t{gridDim.x} * kSumThreads) {
    float sum = load_global(partials + at);
    for (int split = 1; split < splits; ++split) sum += load_global(partials + split * count + at);
    store_global(w + at, ptx::narrow<T>(sum));
  }
}

int64_t tiles_of(const ConvProblem& p) {
  const auto tiles = [](int64_t channels) { return (channels + kTile - 1) / kTile; };
  return p.taps() * tiles(p.in_c_group()) * tiles(p.out_c_group()) * p.groups;
}

int splits_of(const ConvProblem& p, const Device& device) {
  const int64_t steps = std::max((p.batch * p.out_pixels() + kDepth - 1) / kDepth, int64_t{1});
  const int64_t wanted = (2 * int64_t{device.multiprocessors} + tiles_of(p) - 1) / tiles_of(p);
  const int64_t most = std::min({int64_t{kMostGradientSplits}, steps, kMostBlocksYZ / p.groups});
  return static_cast<int>(std::clamp(wanted, int64_t{1}, most));
}

void launch_simt(const ConvPlan& plan, const ConvOperands& operands, float* partials, Stream& stream) {
  const DeviceGather g = device_gather(plan.problem, plan.gathers[0]);
  const dim3 grid(static_cast<unsigned>(g.taps * ((g.src_c + kTile - 1) / kTile)),
                  static_cast<unsigned>((g.dst_c + kTile - 1) / kTile), static_cast<unsigned>(g.groups * plan.splits));
  launch("weight_gradient", g.channels_last ? weight_gradient<true> : weight_gradient<false>, grid, kThreads, kShared,
         stream, g, static_cast<const float*>(operands.x), static_cast<const float*>(operands.y),
         partials ? partials : static_cast<float*>(operands.w), plan.splits);
}

}  // namespace

Support weight_gradient_supports(const ConvProblem& p) {
  if (p.taps() * ((p.in_c_group() + kTile - 1) / kTile) > INT32_MAX) return {"too many taps for a grid"};
  if (p.out_c_group() > int64_t{kMostBlocksYZ} * kTile) return {"too many channels for a grid"};
  return fits_32_bits(p);
}

// A step of 16 or 32 pixels: products, or loads and stores of single elements, four warps' of each a cycle.
double weight_gradient_cost(const ConvProblem& p, const Target& t) {
  const Rates rates = rates_of(t.device.arch);
  const bool simt = t.precision == Precision::fp32_simt && !is_half(t);
  const double pixels = is_half(t) ? 32 : 16, products = double(kTile) * kTile * pixels;
  const double rate = simt ? rates.fma : is_half(t) ? rates.half : is_split(t) ? rates.tf32 / 3 : rates.tf32;
  const double step = std::max(products / rate, 2 * kTile * pixels / 32 * 2);
  const int splits = splits_of(p, t.device);
  const double each = divided(double(tiles_of(p)) * splits, t.device.multiprocessors),
               steps = divided(divided(double(p.batch * p.out_pixels()), pixels), splits);
  const double summed =
      splits > 1 ? kLaunchCycles + 4.0 * splits * double(p.weight_elements()) / (rates.cache * t.device.multiprocessors)
                 : 0;
  return std::max(each * steps * step * (each > 1 ? 1 : kAlone) + kFillCycles, memory_cycles(array_bytes(p, t), t)) +
         kLaunchCycles + summed;
}

void weight_gradient_prepare(ConvPlan& plan) {
  plan.simt = plan.precision == Precision::fp32_simt && plan.element == Element::float32;
  plan.splits = splits_of(plan.problem, plan.device);
  if (plan.splits > 1)
    plan.workspace_bytes = static_cast<size_t>(plan.problem.weight_elements() * plan.splits) * sizeof(float);
}

void weight_gradient_run(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace, Stream& stream) {
  auto* const partials = plan.splits > 1 ? reinterpret_cast<float*>(workspace) : nullptr;
  plan.simt ? launch_simt(plan, operands, partials, stream) : weight_gradient_mma_run(plan, operands, partials, stream);
  if (!partials) return;
  const int64_t count = plan.problem.weight_elements(),
                blocks = std::min((count + kSumThreads - 1) / kSumThreads, int64_t{1} << 20);
  visit_element(plan.element, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (sizeof(T) < 8)
      launch("sum_splits", sum_splits<T>, static_cast<unsigned>(blocks), kSumThreads, 0, stream, partials,
             static_cast<T*>(operands.w), count, plan.splits);
  });
}

}  // namespace fastconv::cuda
