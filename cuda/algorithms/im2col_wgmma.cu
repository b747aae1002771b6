// im2col on Hopper's tensor cores: float16 and bfloat16, NHWC, forward, one group, channels in whole 16 bytes.
//
//   pack   that of im2col_mma.cu: packed[tap][out_c][in_c]
//   run    for each block, a tile of 128 pixels x 128 output channels:
//            one warp    for tap, for 64 input channels: as soon as a stage is free, bulk copies into it of
//                        a[128 pixels, 64] = x at the tap's offset, by an im2col tensor map
//                        b[128 out_c, 64]  = packed[tap], by a tiled one
//            two groups  each 64 pixels x 128: c += a b^T as soon as a stage is full; one product is under way while
//                        the next stage is waited for
//          y = what the epilogue makes of c, from registers
// Positions outside the image and channels beyond the last are zeros that the tensor maps put there.
// grid = (pixels of all images / 128, out_c / 128). Budget: 64 accumulators a thread, at most 112 registers, 97 KiB
// of shared memory: two blocks on a multiprocessor.
// Arrays are aligned to 16 bytes (alignment_of in plan.h): the bindings copy what is not.
#include "../kernels/epilogue.cuh"
#include "../matrix_choice.h"
#include "../tensor_map.h"
#include "algorithms.h"

namespace fastconv::cuda {
namespace {

constexpr int kPixels = 128, kChannels = 128, kDepth = 64, kStages = 3;
constexpr double kShareOfMma = 0.62;  // of the rate of wgmma: ../rates.h
constexpr int kConsumers = 256, kThreads = kConsumers + 32;
constexpr int kTileBytes = kPixels * kDepth * 2, kStageBytes = 2 * kTileBytes, kSwizzle = 1024;
constexpr size_t kSharedBytes = kSwizzle + kStages * kStageBytes + 2 * kStages * sizeof(uint64_t);
static_assert(kSharedBytes <= kMostShared);

struct WgmmaShape {
  int64_t pixels, out_c;  // of all images
  int out_h, out_w, taps_w, depth_steps, steps;
  int stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
};

struct Stages {
  unsigned char* first;
  uint64_t *full, *empty;

  __device__ __forceinline__ explicit Stages(unsigned char* memory) {
    const uint32_t beyond = ptx::shared_address(memory) % kSwizzle;
    first = memory + (beyond ? kSwizzle - beyond : 0);
    full = reinterpret_cast<uint64_t*>(first + kStages * kStageBytes);
    empty = full + kStages;
  }
  __device__ __forceinline__ unsigned char* a(int stage) const { return first + stage * kStageBytes; }
  __device__ __forceinline__ unsigned char* b(int stage) const { return a(stage) + kTileBytes; }
};

__device__ __forceinline__ void bring_stages(const Stages& s, const ptx::TensorMap& x_map, const ptx::TensorMap& w_map,
                                             const WgmmaShape& p) {
  const int64_t pixel = int64_t{blockIdx.x} * kPixels;
  const int ow = static_cast<int>(pixel % p.out_w), oh = static_cast<int>(pixel / p.out_w % p.out_h),
            image = static_cast<int>(pixel / p.out_w / p.out_h), first = static_cast<int>(blockIdx.y) * kChannels;
  const int w = ow * p.stride_w - p.pad_w, h = oh * p.stride_h - p.pad_h;
  for (int step = 0; step < p.steps; ++step) {
    const int stage = step % kStages, round = step / kStages, tap = step / p.depth_steps,
              channel = step % p.depth_steps * kDepth;
    ptx::barrier_wait(s.empty + stage, (round & 1) ^ 1);
    ptx::barrier_expect(s.full + stage, kStageBytes);
    ptx::copy_pixels(s.a(stage), x_map, channel, w, h, image, tap % p.taps_w * p.dilation_w,
                     tap / p.taps_w * p.dilation_h, s.full + stage);
    ptx::copy_box(s.b(stage), w_map, channel, first, tap, s.full + stage);
  }
}

// The results of a thread: pairs of channels at two pixels.
template <class T>
__device__ __forceinline__ void store_results(const float (&c)[64], const WgmmaShape& p, const Epilogue<T>& e, T* y) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  const int64_t first_pixel = int64_t{blockIdx.x} * kPixels + thread / 32 * 16 + lane / 4,
                first_channel = int64_t{blockIdx.y} * kChannels + lane % 4 * 2;
#pragma unroll
  for (int j = 0; j < kChannels / 8; ++j) {
    const int64_t channel = first_channel + 8 * j;
    if (channel >= p.out_c) break;
    float bias[2] = {0, 0};
    if (e.bias)
      bias[0] = ptx::widen(load_global(e.bias + channel)), bias[1] = ptx::widen(load_global(e.bias + channel + 1));
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t pixel = first_pixel + 8 * half, at = pixel * p.out_c + channel;
      if (pixel >= p.pixels) continue;
      Channels<T, 2> values{};
      if (e.residual) values = load_channels<T, 2>(e.residual + at);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float sum = c[4 * j + 2 * half + i] + bias[i];
        if (e.residual) sum += ptx::widen(values.at[i]);
        values.at[i] = ptx::narrow<T>(activated(sum, e.activation));
      }
      store_channels<T, 2>(y + at, values);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    im2col_wgmma(const FASTCONV_GRID_CONSTANT ptx::TensorMap x_map, const FASTCONV_GRID_CONSTANT ptx::TensorMap w_map,
                 WgmmaShape p, Epilogue<T> epilogue, T* y) {
#ifdef FASTCONV_HAS_WGMMA
  const Stages s(shared_memory());
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      ptx::barrier_init(s.full + stage, 1);
      ptx::barrier_init(s.empty + stage, kConsumers / 128);
    }
    ptx::publish_barriers();
  }
  __syncthreads();
  if (thread >= kConsumers) {
    if (thread == kConsumers) bring_stages(s, x_map, w_map, p);
    return;
  }
  float c[64] = {};
  const int rows = thread / 128 * 64 * 128;  // bytes of a before those of this group
  for (int step = 0; step < p.steps; ++step) {
    const int stage = step % kStages;
    ptx::barrier_wait(s.full + stage, step / kStages & 1);
    const uint64_t a = ptx::matrix_descriptor(ptx::shared_address(s.a(stage) + rows)),
                   b = ptx::matrix_descriptor(ptx::shared_address(s.b(stage)));
    ptx::group_fence();
#pragma unroll
    for (int k = 0; k < kDepth / 16; ++k)  // 32 bytes further in a row
      ptx::group_multiply(c, a + 2 * k, b + 2 * k, T{});
    ptx::group_commit();
    ptx::group_wait<1>();
    if (step > 0 && thread % 128 == 0) ptx::barrier_arrive(s.empty + (step - 1) % kStages);
  }
  ptx::group_wait<0>();
  ptx::hold_registers(c);
  store_results(c, p, epilogue, y);
#endif
}

WgmmaShape shape_of(const ConvProblem& p) {
  const auto narrow = [](int64_t n) { return static_cast<int>(n); };
  WgmmaShape s;
  s.pixels = p.batch * p.out_pixels(), s.out_c = p.out_c;
  s.out_h = narrow(p.h().out), s.out_w = narrow(p.w().out), s.taps_w = narrow(p.w().kernel);
  s.depth_steps = narrow((p.in_c + kDepth - 1) / kDepth), s.steps = narrow(p.taps()) * s.depth_steps;
  s.stride_h = narrow(p.h().stride), s.stride_w = narrow(p.w().stride);
  s.pad_h = narrow(p.h().pad_lo), s.pad_w = narrow(p.w().pad_lo);
  s.dilation_h = narrow(p.h().dilation), s.dilation_w = narrow(p.w().dilation);
  return s;
}

template <class T>
void run_wgmma(const ConvPlan& plan, const ConvOperands& operands, Stream& stream) {
  const ConvProblem& p = plan.problem;
  const ptx::TensorMap x_map = stream.load_only ? ptx::TensorMap{}
                                                : image_map(p, plan.element, operands.x, kDepth, kPixels),
                       w_map = stream.load_only ? ptx::TensorMap{}
                                                : filter_map(p, plan.element, operands.packed, kDepth, kChannels);
  const WgmmaShape s = shape_of(p);
  const dim3 grid(static_cast<unsigned>((s.pixels + kPixels - 1) / kPixels),
                  static_cast<unsigned>((s.out_c + kChannels - 1) / kChannels));
  launch("im2col_wgmma", im2col_wgmma<T>, grid, kThreads, kSharedBytes, stream, x_map, w_map, s,
         epilogue_of<T>(p, operands), static_cast<T*>(operands.y));
}

// Whether a tensor map can walk along this axis.
bool walkable(const Axis& a) {
  const int64_t reach = (a.kernel - 1) * a.dilation;
  return a.stride <= 8 && reach <= 255 && a.pad_lo <= 128 && a.pad_hi - reach >= -128 && a.pad_hi - reach <= 127;
}

}  // namespace

Support im2col_wgmma_supports(const ConvProblem& p, const Target& t) {
  if (t.device.arch != 90) return {"it is for architecture 9.0 alone"};
  if (size_of(t.element) != 2) return {"it is for 16-bit elements"};
  if (t.pooled) return {"it does not pool"};
  if (p.direction != Direction::forward) return {"it is for the forward direction"};
  if (p.layout != Layout::nhwc) return {"it is for NHWC"};
  if (p.groups != 1) return {"it is for one group"};
  if (p.in_c % 8 || p.out_c % 8) return {"it needs multiples of 8 channels"};
  if (p.d().in != 1 || p.d().kernel != 1 || p.d().out != 1) return {"it is for images and signals"};
  if (!walkable(p.h()) || !walkable(p.w())) return {"the windows are beyond what a tensor map can walk"};
  if (p.out_c > int64_t{kMostBlocksYZ} * kChannels) return {"too many channels for a grid"};
  return fits_32_bits(p);
}

double im2col_wgmma_cost(const ConvProblem& p, const Target& t, int) {
  const WgmmaShape s = shape_of(p);
  const double blocks = divided(double(s.pixels), kPixels) * divided(double(s.out_c), kChannels),
               step = kPixels * kChannels * kDepth / (rates_of(t.device.arch).half / kShareOfMma);
  const double cycles = divided(blocks, t.device.multiprocessors) * s.steps * step + kFillCycles;
  return std::max(cycles, memory_cycles(array_bytes(p, t), t)) + kLaunchCycles;
}

void im2col_wgmma_prepare(ConvPlan& plan) { plan.packed_bytes = im2col_mma_packed_bytes(plan); }

void im2col_wgmma_pack(const ConvPlan& plan, const void* w, void* packed, Stream& stream) {
  im2col_mma_pack(plan, w, packed, stream);
}

void im2col_wgmma_run(const ConvPlan& plan, const ConvOperands& operands, std::byte*, Stream& stream) {
  if (!aligned_16(operands.x) || !aligned_16(operands.y) || !aligned_16(operands.residual))
    throw Unsupported("im2col_wgmma: an array is not aligned to 16 bytes");
  if (plan.element == Element::float16) return run_wgmma<half16>(plan, operands, stream);
  run_wgmma<bfloat16>(plan, operands, stream);
}

}  // namespace fastconv::cuda
