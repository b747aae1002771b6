// reference: the definition. Any problem, any direction, sums in double.
//
// forward, input_gradient   one thread per element of dst: sum over src channel and taps of w * src
// weight_gradient           one block per weight: every thread sums its share of the images' output positions, then a
//                           tree in shared memory adds the threads in a fixed order
// Preconditions: none; every index is 64-bit.
#include "../kernels/epilogue.cuh"
#include "../kernels/geometry.cuh"
#include "../matrix_choice.h"
#include "algorithms.h"

namespace fastconv::cuda {
namespace {

constexpr int kThreads = 128;

template <class T>
__global__ void __launch_bounds__(kThreads)
    reference_gather(DeviceGather g, const T* src, const T* w, Epilogue<T> epilogue, T* dst) {
  const int64_t count = g.batch * g.groups * g.dst_c * g.pixels;
  for (int64_t item = int64_t{blockIdx.x} * kThreads + threadIdx.x; item < count;
       item += int64_t{gridDim.x} * kThreads) {
    const int64_t pixel = item % g.pixels, to = item / g.pixels % g.dst_c, group = item / g.pixels / g.dst_c % g.groups,
                  image = item / g.pixels / g.dst_c / g.groups;
    const int64_t jw = pixel % g.w.dst, jh = pixel / g.w.dst % g.h.dst, jd = pixel / g.w.dst / g.h.dst;
    const T* const weights = w + group * g.w_group + to * g.w_dst + g.w_base;
    const T* const sources = src + image * g.src_image + group * g.src_c * g.src_channel;
    double sum = 0;
    for (int64_t from = 0; from < g.src_c; ++from)
      for (int64_t td = 0; td < g.d.taps; ++td)
        for (int64_t th = 0; th < g.h.taps; ++th)
          for (int64_t tw = 0; tw < g.w.taps; ++tw) {
            const int64_t z = jd * g.d.src_step + g.d.offset + td * g.d.offset_step,
                          y = jh * g.h.src_step + g.h.offset + th * g.h.offset_step,
                          x = jw * g.w.src_step + g.w.offset + tw * g.w.offset_step;
            if (z < 0 || z >= g.d.src || y < 0 || y >= g.h.src || x < 0 || x >= g.w.src) continue;
            const T weight =
                load_global(weights + from * g.w_src + td * g.d.w_stride + th * g.h.w_stride + tw * g.w.w_stride);
            const T value = load_global(sources + from * g.src_channel + z * g.d.src_stride + y * g.h.src_stride +
                                        x * g.w.src_stride);
            sum += static_cast<double>(ptx::widen(weight)) * static_cast<double>(ptx::widen(value));
          }
    const int64_t channel = group * g.dst_c + to, at = image * g.dst_image + channel * g.dst_channel + g.dst_base +
                                                       jd * g.d.dst_stride + jh * g.h.dst_stride + jw * g.w.dst_stride;
    store_global(dst + at, ptx::narrow<T>(finished(epilogue, sum, channel, at)));
  }
}

// g is the forward gather: src is x, dst is y.
template <class T>
__global__ void __launch_bounds__(kThreads) reference_weight_gradient(DeviceGather g, const T* x, const T* y, T* w) {
  auto* const sums = reinterpret_cast<double*>(shared_memory());
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t weight = blockIdx.x, tap = weight % g.taps, in = weight / g.taps % g.src_c,
                out = weight / g.taps / g.src_c, group = out / g.dst_c;
  const int64_t tw = tap % g.w.taps, th = tap / g.w.taps % g.h.taps, td = tap / g.w.taps / g.h.taps;
  const T* const source = x + (group * g.src_c + in) * g.src_channel;
  const T* const gradient = y + out * g.dst_channel;
  double sum = 0;
  for (int64_t item = thread; item < g.batch * g.pixels; item += kThreads) {
    const int64_t pixel = item % g.pixels, image = item / g.pixels;
    const int64_t jw = pixel % g.w.dst, jh = pixel / g.w.dst % g.h.dst, jd = pixel / g.w.dst / g.h.dst;
    const int64_t z = jd * g.d.src_step + g.d.offset + td * g.d.offset_step,
                  v = jh * g.h.src_step + g.h.offset + th * g.h.offset_step,
                  u = jw * g.w.src_step + g.w.offset + tw * g.w.offset_step;
    if (z < 0 || z >= g.d.src || v < 0 || v >= g.h.src || u < 0 || u >= g.w.src) continue;
    const T value =
        load_global(source + image * g.src_image + z * g.d.src_stride + v * g.h.src_stride + u * g.w.src_stride);
    const T slope =
        load_global(gradient + image * g.dst_image + jd * g.d.dst_stride + jh * g.h.dst_stride + jw * g.w.dst_stride);
    sum += static_cast<double>(ptx::widen(value)) * static_cast<double>(ptx::widen(slope));
  }
  store_shared(sums + thread, sum);
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) store_shared(sums + thread, load_shared(sums + thread) + load_shared(sums + thread + half));
  }
  if (thread == 0) store_global(w + weight, ptx::narrow<T>(load_shared(sums)));
}

// x in memory order, channels last or first: bias and activation of nothing.
template <class T>
__global__ void __launch_bounds__(kThreads)
    fill_empty_sums(T* x, const T* bias, int64_t count, int64_t channels, int64_t run, Activation activation) {
  for (int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x; at < count; at += int64_t{gridDim.x} * kThreads)
    store_global(x + at, ptx::narrow<T>(activated(
                             bias ? static_cast<double>(ptx::widen(load_global(bias + at / run % channels))) : 0.0,
                             activation)));
}

unsigned blocks_for(int64_t items) {
  const int64_t most = 1 << 20;  // the kernels stride over the rest
  return static_cast<unsigned>(std::min((items + kThreads - 1) / kThreads, most));
}

}  // namespace

void fill_uncovered(const ConvPlan& plan, const ConvOperands& operands, Stream& stream) {
  const ConvProblem& p = plan.problem;
  const int64_t count = p.batch * p.in_c * p.in_pixels(), run = p.layout == Layout::nhwc ? 1 : p.in_pixels();
  visit_element(plan.element, [&](auto zero) {
    using T = decltype(zero);
    launch("fill_empty_sums", fill_empty_sums<T>, blocks_for(count), kThreads, 0, stream, static_cast<T*>(operands.x),
           static_cast<const T*>(operands.bias), count, p.in_c, run, p.activation);
  });
}

Support fits_32_bits(const ConvProblem& p) {
  const int64_t most = (int64_t{1} << 30) - 1;
  for (const Axis& a : p.axes)
    if (a.in + a.pad_lo + a.pad_hi > most || a.out > most || a.window() > most || a.stride > most)
      return {"an extent of the window or the padded image is beyond 2^30"};
  if (std::max(p.batch, int64_t{1}) * std::max(p.in_pixels(), p.out_pixels()) > most)
    return {"batch times pixels is beyond 2^30"};
  if (p.taps() * std::max(p.in_c_group(), p.out_c_group()) > most) return {"a sum has 2^30 terms or more"};
  if (p.groups > kMostBlocksYZ || std::max(p.in_c, p.out_c) > most) return {"more than 65535 groups"};
  return {};
}

Support reference_supports(const ConvProblem& p, const Target& t) {
  if (t.pooled) return {"it does not pool"};
  if (p.direction == Direction::weight_gradient && p.weight_elements() > INT32_MAX) return {"more than 2^31 weights"};
  return {};
}

// Some 40 instructions for a product, most of them about indices of 64 bits.
double reference_cost(const ConvProblem& p, const Target& t, int) {
  const Rates rates = rates_of(t.device.arch);
  const double products = p.flops() / 2 / t.device.multiprocessors;
  return products * std::max(40 / rates.fma, 1 / rates.double_fma) + kFillCycles + kLaunchCycles;
}

void reference_prepare(ConvPlan&) {}

void reference_pack(const ConvPlan&, const void*, void*, Stream&) {}

void reference_run(const ConvPlan& plan, const ConvOperands& operands, std::byte*, Stream& stream) {
  const ConvProblem& p = plan.problem;
  visit_element(plan.element, [&](auto zero) {
    using T = decltype(zero);
    if (p.direction == Direction::weight_gradient) {
      launch("reference_weight_gradient", reference_weight_gradient<T>, static_cast<unsigned>(p.weight_elements()),
             kThreads, kThreads * sizeof(double), stream, device_gather(p, plan.gathers[0]),
             static_cast<const T*>(operands.x), static_cast<const T*>(operands.y), static_cast<T*>(operands.w));
      return;
    }
    if (!covers_result(plan.gathers)) fill_uncovered(plan, operands, stream);
    const bool forward = p.direction == Direction::forward;
    for (const Gather& gather : plan.gathers) {
      const DeviceGather g = device_gather(p, gather);
      launch("reference_gather", reference_gather<T>, blocks_for(g.batch * g.groups * g.dst_c * g.pixels), kThreads, 0,
             stream, g, static_cast<const T*>(forward ? operands.x : operands.y), static_cast<const T*>(operands.w),
             epilogue_of<T>(p, operands), static_cast<T*>(forward ? operands.y : operands.x));
    }
  });
}

}  // namespace fastconv::cuda
