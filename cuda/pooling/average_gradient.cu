// The gradient of average pooling, gathered: an element of x sums the gradients of the windows that hold it, each
// divided by its divisor, in the order of the windows.
//
// thread: one element of NCHW, up to 16 bytes of channels of NHWC. grid = (items of an image / kThreads, images).
#include "../kernels/pooling.cuh"
#include "../pool.h"

namespace fastconv::cuda {
namespace {

constexpr int kThreads = 128;

struct Range {
  int begin, end;
};

// Windows that hold position i; for ordinary axes of dilation 1.
__device__ __forceinline__ Range windows_over(const PoolAxis& a, int i) {
  if (a.adaptive) {
    return {share_of(i, a.out, a.in), share_of(i + 1, a.out, a.in, a.in - 1)};
  }
  const int after = i + a.pad_lo - a.kernel;  // a window that starts here ends before i
  return {after < 0 ? 0 : after / a.stride + 1, min(a.out, (i + a.pad_lo) / a.stride + 1)};
}

template <class T, int count, bool kChannelsLast>
__global__ void __launch_bounds__(kThreads, 4)
    average_gradient(DevicePool p, const T* grad_y, T* grad_x, int items, int vectors) {
  int item = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (item >= items) return;
  const int64_t in_pixels = int64_t{p.d.in} * p.h.in * p.w.in, out_pixels = int64_t{p.d.out} * p.h.out * p.w.out;
  const int64_t unit = kChannelsLast ? p.channels : 1;
  int channel = 0;
  if (kChannelsLast) channel = item % vectors, item /= vectors;
  const int x = item % p.w.in, y = item / p.w.in % p.h.in, z = item / p.w.in / p.h.in % p.d.in;
  if (!kChannelsLast) channel = item / p.w.in / p.h.in / p.d.in;
  const int64_t from = channel * (kChannelsLast ? count : out_pixels);
  const int64_t to = channel * (kChannelsLast ? count : in_pixels) + ((int64_t{z} * p.h.in + y) * p.w.in + x) * unit;
  const Range d = windows_over(p.d, z), h = windows_over(p.h, y), w = windows_over(p.w, x);
  for (int64_t image = blockIdx.y; image < p.batch; image += gridDim.y) {
    const T* const plane = grad_y + image * out_pixels * p.channels + from;
    Wide<T> sums[count] = {};
    for (int od = d.begin; od < d.end; ++od)
      for (int oh = h.begin; oh < h.end; ++oh)
#pragma unroll 1
        for (int ow = w.begin; ow < w.end; ++ow) {
          const auto divisor = divisor_of<Wide<T>>(p, taps_of(p.d, od), taps_of(p.h, oh), taps_of(p.w, ow));
          const auto g = load_channels<T, count>(plane + ((int64_t{od} * p.h.out + oh) * p.w.out + ow) * unit);
#pragma unroll
          for (int c = 0; c < count; ++c) sums[c] += ptx::widen(g.at[c]) / divisor;
        }
    Channels<T, count> result;
#pragma unroll
    for (int c = 0; c < count; ++c) result.at[c] = ptx::narrow<T>(sums[c]);
    store_channels<T, count>(grad_x + image * in_pixels * p.channels + to, result);
  }
}

template <class T, int count, bool kChannelsLast>
void launch_gradient(const DevicePool& p, const void* grad_y, void* grad_x, Stream& stream) {
  const int64_t vectors = p.channels / count, items = vectors * p.d.in * p.h.in * p.w.in;
  if (items > INT32_MAX - kThreads) throw Unsupported("pooling on CUDA: an image has 2^31 elements or more");
  const dim3 grid(static_cast<unsigned>((items + kThreads - 1) / kThreads),
                  static_cast<unsigned>(std::min<int64_t>(p.batch, kMostBlocksYZ)));
  launch("average_gradient", average_gradient<T, count, kChannelsLast>, grid, kThreads, 0, stream, p,
         static_cast<const T*>(grad_y), static_cast<T*>(grad_x), static_cast<int>(items), static_cast<int>(vectors));
}

}  // namespace

void run_average_gradient(const PoolProblem& problem, Element element, const void* grad_y, void* grad_x,
                          Stream& stream) {
  const DevicePool p = device_pool(problem);
  visit_element(element, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kWide = 16 / static_cast<int>(sizeof(T));
    if (problem.layout == Layout::nchw)
      launch_gradient<T, 1, false>(p, grad_y, grad_x, stream);
    else if (p.channels % kWide == 0 && aligned_16(grad_x) && aligned_16(grad_y))
      launch_gradient<T, kWide, true>(p, grad_y, grad_x, stream);
    else
      launch_gradient<T, 1, true>(p, grad_y, grad_x, stream);
  });
}

}  // namespace fastconv::cuda
