// depthwise: one source channel per group, so that nothing is summed over channels. Forward and input gradient, every
// element type; 16-bit elements are summed in float32.
//
//   dst[image, c, jh, jw] = sum over th, tw of  w[c, th, tw] * src[image, c / multiplier, jh S + th + offset, ...]
// A thread owns kRows outputs one below the other; lanes run along the contiguous axis (columns of NCHW, channels of
// NHWC; of 16-bit channels two a thread where they are aligned so), so that every access of a warp is whole sectors. A
// source row is read once and serves all of its outputs; window and sums stay in registers: K x K weights, K values, K
// sums of each channel.
//   for row of the strip: v[K] = src row;  for each output it touches: sum += w[th] . v
// Lost: the strip unrolled. The loads of all its rows move to the front and 5 x 5 windows spill registers.
// Templates: square windows of 2, 3, 5, 7 taps, step 1 and 2 (the phases of a strided input gradient are such windows
// too), of float64 up to 3 taps, whose registers are twice as many, in one slice of depth; any other window walks its
// taps one by one. Mirrored taps (input gradients) are turned round on the host. Preconditions: image_items() < 2^31.
// Time goes to reading and writing.
#include "../kernels/epilogue.cuh"
#include "../kernels/geometry.cuh"
#include "../matrix_choice.h"
#include "algorithms.h"

namespace fastconv::cuda {
namespace {

constexpr int kThreads = 128, kRows = 8;

struct Place {
  int channel, jd, jh, jw;
};

// `count` channels are one item.
__device__ __forceinline__ Place place_of(int item, const DeviceGather& g, int count) {
  const int width = static_cast<int>(g.w.dst), strips = (static_cast<int>(g.h.dst) + kRows - 1) / kRows,
            depth = static_cast<int>(g.d.dst), channels = static_cast<int>(g.groups * g.dst_c) / count;
  Place at;
  if (g.channels_last) at.channel = item % channels * count, item /= channels;
  at.jw = item % width, item /= width;
  at.jh = item % strips * kRows, item /= strips;
  at.jd = item % depth;
  if (!g.channels_last) at.channel = item / depth;
  return at;
}

// Where the results go, and what becomes of sums that have begun with their bias.
template <class T>
struct Output {
  T* dst;
  const T* residual;  // laid out like dst, or null
  Activation activation;

  template <int count>
  __device__ __forceinline__ void store(int64_t at, const Wide<T> (&sums)[count]) const {
    Channels<T, count> values{};
    if (residual) values = load_channels<T, count>(residual + at);
#pragma unroll
    for (int c = 0; c < count; ++c) {
      const Wide<T> sum = residual ? sums[c] + ptx::widen(values.at[c]) : sums[c];
      values.at[c] = ptx::narrow<T>(activated(sum, activation));
    }
    store_channels<T, count>(dst + at, values);
  }
};

// The outputs of one thread in one image, K x K window, step S down and across. At step s, rows s S .. s S + S - 1 of
// the strip are read; sums[q] is that of output s - q, which takes weights of rows q S .. q S + S - 1 from them. The
// loop over steps is rolled, so that registers hold the weights, one row of values and the open sums, and no more.
template <class T, int count, int K, int S>
__device__ __forceinline__ void slide(const Wide<T> (&weights)[K][K][count], const DeviceGather& g, const T* src,
                                      int64_t column, const Place& at, const Wide<T> (&start)[count],
                                      const Output<T>& out) {
  constexpr int kOpen = (K + S - 1) / S;
  const int height = static_cast<int>(g.h.src), width = static_cast<int>(g.w.src);
  const int top = at.jh * S + static_cast<int>(g.h.offset), left = at.jw * S + static_cast<int>(g.w.offset);
  Wide<T> sums[kOpen][count];
#pragma unroll
  for (int q = 0; q < kOpen; ++q)
#pragma unroll
    for (int c = 0; c < count; ++c) sums[q][c] = start[c];
#pragma unroll 1
  for (int step = 0; step < kRows + kOpen - 1; ++step) {
#pragma unroll
    for (int dy = 0; dy < S; ++dy) {
      const int y = top + step * S + dy;
      if (y < 0 || y >= height) continue;
      const T* const row = src + y * g.h.src_stride;
      Channels<T, count> values[K];
#pragma unroll
      for (int tw = 0; tw < K; ++tw) {
        const int x = left + tw;
        values[tw] = Channels<T, count>{};
        if (x >= 0 && x < width) values[tw] = load_channels<T, count>(row + x * g.w.src_stride);
      }
#pragma unroll
      for (int tw = 0; tw < K; ++tw)
#pragma unroll
        for (int c = 0; c < count; ++c) {
          const Wide<T> value = ptx::widen(values[tw].at[c]);
#pragma unroll
          for (int q = 0; q < kOpen; ++q)
            if (q * S + dy < K) sums[q][c] += weights[q * S + dy][tw][c] * value;
        }
    }
    const int done = at.jh + step - (kOpen - 1);
    if (done >= g.h.dst) return;
    if (step >= kOpen - 1) out.template store<count>(column + done * g.h.dst_stride, sums[kOpen - 1]);
#pragma unroll
    for (int c = 0; c < count; ++c) {
#pragma unroll
      for (int q = kOpen - 1; q > 0; --q) sums[q][c] = sums[q - 1][c];
      sums[0][c] = start[c];
    }
  }
}

template <class T>
__device__ __forceinline__ void add_any_window(Wide<T> (&sums)[kRows], const DeviceGather& g, const T* src, const T* w,
                                               int top, int left) {
  for (int th = 0; th < g.h.taps; ++th)
    for (int tw = 0; tw < g.w.taps; ++tw) {
      const Wide<T> weight = ptx::widen(load_global(w + th * g.h.w_stride + tw * g.w.w_stride));
      const int x = left + tw * static_cast<int>(g.w.offset_step);
      if (x < 0 || x >= g.w.src) continue;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int y = top + r * static_cast<int>(g.h.src_step) + th * static_cast<int>(g.h.offset_step);
        if (y >= 0 && y < g.h.src)
          sums[r] += weight * ptx::widen(load_global(src + y * g.h.src_stride + x * g.w.src_stride));
      }
    }
}

template <class T>
__device__ __forceinline__ void walk_taps(const DeviceGather& g, const T* src, const T* w, int64_t column,
                                          const Place& at, Wide<T> start, const Output<T>& out) {
  const int top = at.jh * static_cast<int>(g.h.src_step) + static_cast<int>(g.h.offset),
            left = at.jw * static_cast<int>(g.w.src_step) + static_cast<int>(g.w.offset);
  Wide<T> sums[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) sums[r] = start;
  for (int td = 0; td < g.d.taps; ++td) {
    const int64_t z = at.jd * g.d.src_step + g.d.offset + td * g.d.offset_step;
    if (z >= 0 && z < g.d.src) add_any_window<T>(sums, g, src + z * g.d.src_stride, w + td * g.d.w_stride, top, left);
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const Wide<T> sum[1] = {sums[r]};
    if (at.jh + r < g.h.dst) out.template store<1>(column + (at.jh + r) * g.h.dst_stride, sum);
  }
}

// K = 0: any window. count > 1: channels are last, one source channel each. grid = (items / kThreads, images).
template <class T, int count, int K, int S>
__global__ void __launch_bounds__(kThreads, 4)
    depthwise(DeviceGather g, const T* src, const T* w, const T* bias, Output<T> out, int items) {
  const int item = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (item >= items) return;
  const Place at = place_of(item, g, count);
  const int dst_c = static_cast<int>(g.dst_c);
  const T* const window = w + at.channel / dst_c * g.w_group + at.channel % dst_c * g.w_dst + g.w_base;
  Wide<T> start[count];
#pragma unroll
  for (int c = 0; c < count; ++c) start[c] = bias ? ptx::widen(load_global(bias + at.channel + c)) : Wide<T>(0);
  src += at.channel / dst_c * g.src_channel;
  const int64_t column = at.channel * g.dst_channel + g.dst_base + at.jd * g.d.dst_stride + at.jw * g.w.dst_stride;
  if constexpr (K > 0) {
    src += (at.jd * g.d.src_step + g.d.offset) * g.d.src_stride;
    Wide<T> weights[K][K][count];
#pragma unroll
    for (int th = 0; th < K; ++th)
#pragma unroll
      for (int tw = 0; tw < K; ++tw)
#pragma unroll
        for (int c = 0; c < count; ++c)
          weights[th][tw][c] = ptx::widen(load_global(window + c * g.w_group + th * g.h.w_stride + tw * g.w.w_stride));
    for (int64_t image = blockIdx.y; image < g.batch; image += gridDim.y)
      slide<T, count, K, S>(weights, g, src + image * g.src_image, column + image * g.dst_image, at, start, out);
  } else {
    for (int64_t image = blockIdx.y; image < g.batch; image += gridDim.y)
      walk_taps<T>(g, src + image * g.src_image, window, column + image * g.dst_image, at, start[0], out);
  }
}

int64_t image_items(const ConvProblem& p) {
  const bool forward = p.direction == Direction::forward;
  // An input gradient's phases are parts of x: none has more items than x has elements.
  return (forward ? p.out_c * p.out_pixels() : p.in_c * p.in_pixels());
}

// The same gather with its taps in the order in which their positions rise.
DeviceGather mirrored(DeviceGather g) {
  for (DeviceAxis* axis : {&g.h, &g.w}) {
    if (axis->offset_step >= 0) continue;
    axis->offset += (axis->taps - 1) * axis->offset_step;
    axis->offset_step = -axis->offset_step;
    g.w_base += (axis->taps - 1) * axis->w_stride;
    axis->w_stride = -axis->w_stride;
  }
  return g;
}

// The taps along one side of a square window that has a template, or 0.
int64_t square_taps(const DeviceGather& g) {
  const auto plain = [](const DeviceAxis& a) { return a.taps == 1 || a.offset_step == 1; };
  // One tap along depth and no padding there: every slice is read.
  const bool flat = g.d.taps == 1 && g.d.offset == 0 && (g.d.dst - 1) * g.d.src_step < g.d.src;
  const bool square = flat && g.h.taps == g.w.taps && g.h.src_step == g.w.src_step && plain(g.h) && plain(g.w);
  return square ? g.h.taps : 0;
}

template <class T, int count>
auto kernel_for(const DeviceGather& g) {
  const int64_t taps = square_taps(g), step = g.h.src_step;
  if (step == 1) {
    if (taps == 2) return depthwise<T, count, 2, 1>;
    if (taps == 3) return depthwise<T, count, 3, 1>;
    if constexpr (sizeof(T) <= 4)
      if (taps == 5) return depthwise<T, count, 5, 1>;
    if constexpr (sizeof(T) <= 4 && count == 1)
      if (taps == 7) return depthwise<T, 1, 7, 1>;
  }
  if (step == 2) {
    if (taps == 3) return depthwise<T, count, 3, 2>;
    if constexpr (sizeof(T) <= 4)
      if (taps == 5) return depthwise<T, count, 5, 2>;
    if constexpr (sizeof(T) <= 4 && count == 1)
      if (taps == 7) return depthwise<T, 1, 7, 2>;
  }
  return depthwise<T, 1, 0, 0>;
}

// Whether a thread takes two 16-bit channels: there is a template, and pairs are whole and aligned.
template <class T>
bool in_pairs(const DeviceGather& g, const T* src, const Output<T>& out) {
  const int64_t taps = square_taps(g), step = g.h.src_step;
  const auto aligned = [](const T* at) { return reinterpret_cast<uintptr_t>(at) % 4 == 0; };
  return sizeof(T) == 2 && g.channels_last && g.dst_c == 1 && g.groups % 2 == 0 && aligned(src) && aligned(out.dst) &&
         aligned(out.residual) && ((step == 1 && taps == 2) || (step <= 2 && (taps == 3 || taps == 5)));
}

template <class T, int count>
void launch_items(const DeviceGather& g, const T* src, const ConvOperands& operands, const Output<T>& out,
                  Stream& stream) {
  const int64_t items = g.groups * g.dst_c / count * g.d.dst * ((g.h.dst + kRows - 1) / kRows) * g.w.dst;
  const dim3 grid(static_cast<unsigned>((items + kThreads - 1) / kThreads),
                  static_cast<unsigned>(std::min<int64_t>(g.batch, kMostBlocksYZ)));
  launch("depthwise", kernel_for<T, count>(g), grid, kThreads, 0, stream, g, src, static_cast<const T*>(operands.w),
         static_cast<const T*>(operands.bias), out, static_cast<int>(items));
}

}  // namespace

Support depthwise_supports(const ConvProblem& p, const Target& t) {
  if (t.pooled) return {"it does not pool"};
  if (p.direction == Direction::weight_gradient) return {"it has no weight gradient"};
  const int64_t src_c = p.direction == Direction::forward ? p.in_c_group() : p.out_c_group();
  if (src_c != 1) return {cat("each result sums ", src_c, " channels, not 1")};
  if (image_items(p) > INT32_MAX - kThreads) return {"an image has 2^31 elements or more"};
  // Groups are no axis of its grid: their number is not limited.
  ConvProblem one_group = p;
  one_group.groups = 1;
  return fits_32_bits(one_group);
}

// Instructions of a result: a multiply-add and its share of a load for each tap, some 15 to find and store it.
double depthwise_cost(const ConvProblem& p, const Target& t, int) {
  const Rates rates = rates_of(t.device.arch);
  const double rate = t.element == Element::float64 ? std::min(rates.fma, 4 * rates.double_fma) : rates.fma;
  double cycles = 0;
  for (const Gather& g : make_gathers(p)) {
    const double results = static_cast<double>(p.batch * g.pixels()) * double(g.dst_c * p.groups);
    const double warps = divided(results, 32.0 * t.device.multiprocessors);
    cycles +=
        std::max(warps * 32 * (1.6 * double(g.taps()) + 15) / rate + kFillCycles, memory_cycles(array_bytes(p, t), t)) +
        kLaunchCycles;
  }
  return cycles;
}

void depthwise_prepare(ConvPlan&) {}

void depthwise_pack(const ConvPlan&, const void*, void*, Stream&) {}

void depthwise_run(const ConvPlan& plan, const ConvOperands& operands, std::byte*, Stream& stream) {
  const ConvProblem& p = plan.problem;
  const bool forward = p.direction == Direction::forward;
  if (!covers_result(plan.gathers)) fill_uncovered(plan, operands, stream);
  visit_element(plan.element, [&](auto zero) {
    using T = decltype(zero);
    const auto* const src = static_cast<const T*>(forward ? operands.x : operands.y);
    const Output<T> out{static_cast<T*>(forward ? operands.y : operands.x), static_cast<const T*>(operands.residual),
                        p.activation};
    for (const Gather& gather : plan.gathers) {
      const DeviceGather g = mirrored(device_gather(p, gather));
      if constexpr (sizeof(T) == 2)
        if (in_pairs(g, src, out)) {
          launch_items<T, 2>(g, src, operands, out, stream);
          continue;
        }
      launch_items<T, 1>(g, src, operands, out, stream);
    }
  });
}

}  // namespace fastconv::cuda
