// Forward pooling window by window: any window, both layouts, a maximum with or without its index, an average.
//
//   thread: kRows results one below the other, of one channel (NCHW) or of up to 16 bytes of channels (NHWC)
//     for each tap of the window that lies inside: take x
// Lanes run along the contiguous axis. Finding the place of a result costs three divisions, which kRows results share.
// Square windows of 2 and 3 without dilation are unrolled (but for float64, which is rare), so that all their reads are
// under way at once; K = 0 walks the taps of any window. grid = (items of an image / kThreads, images).
// Preconditions: an image has less than 2^31 items; large single windows go to plane.cu.
#include "../kernels/pooling.cuh"
#include "pooling.h"

namespace fastconv::cuda {
namespace {

constexpr int kThreads = 128, kRows = 4;

struct Place {
  int channel, od, oh, ow;
};

template <bool kChannelsLast>
__device__ __forceinline__ Place place_of(int item, const DevicePool& p, int vectors) {
  const int strips = (p.h.out + kRows - 1) / kRows;
  Place at{};
  if (kChannelsLast) at.channel = item % vectors, item /= vectors;
  at.ow = item % p.w.out, item /= p.w.out;
  at.oh = item % strips * kRows, item /= strips;
  at.od = item % p.d.out;
  if (!kChannelsLast) at.channel = item / p.d.out;
  return at;
}

// All results of one window row, K x K taps, of which those outside are left out.
template <class T, int count, bool average, bool kIndices, int K>
__device__ __forceinline__ void take_square(Reduced<Wide<T>, average, kIndices> (&sums)[count], const DevicePool& p,
                                            const T* plane, int64_t unit, int z, int top, int left) {
#pragma unroll
  for (int th = 0; th < K; ++th)
#pragma unroll
    for (int tw = 0; tw < K; ++tw) {
      const int y = top + th, x = left + tw;
      if (y < 0 || y >= p.h.in || x < 0 || x >= p.w.in) continue;
      const int at = (z * p.h.in + y) * p.w.in + x;
      const auto values = load_channels<T, count>(plane + at * unit);
#pragma unroll
      for (int c = 0; c < count; ++c) sums[c].take(ptx::widen(values.at[c]), at);
    }
}

template <class T, int count, bool average, bool kIndices>
__device__ __forceinline__ void take_any(Reduced<Wide<T>, average, kIndices> (&sums)[count], const DevicePool& p,
                                         const T* plane, int64_t unit, const Taps& d, const Taps& h, const Taps& w) {
  for (int td = 0; td < d.count; ++td)
    for (int th = 0; th < h.count; ++th)
      for (int tw = 0; tw < w.count; ++tw) {
        const int z = d.first + td * p.d.dilation, y = h.first + th * p.h.dilation, x = w.first + tw * p.w.dilation;
        const int at = (z * p.h.in + y) * p.w.in + x;
        const auto values = load_channels<T, count>(plane + at * unit);
#pragma unroll
        for (int c = 0; c < count; ++c) sums[c].take(ptx::widen(values.at[c]), at);
      }
}

template <class T, int count, bool average, bool kIndices, bool kChannelsLast, int K>
__global__ void __launch_bounds__(kThreads, 4)
    pool_windows(DevicePool p, const T* x, T* y, int64_t* index, int items, int vectors) {
  const int item = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (item >= items) return;
  [[maybe_unused]] constexpr int kUnroll = K == 2 ? kRows : K == 3 ? 2 : 1;  // as many as registers hold
  const Place at = place_of<kChannelsLast>(item, p, vectors);
  const int64_t in_pixels = int64_t{p.d.in} * p.h.in * p.w.in, out_pixels = int64_t{p.d.out} * p.h.out * p.w.out;
  const int64_t unit = kChannelsLast ? p.channels : 1;
  const int64_t from = at.channel * (kChannelsLast ? count : in_pixels);
  const int64_t to = at.channel * (kChannelsLast ? count : out_pixels);
  const Taps d = taps_of(p.d, at.od), w = taps_of(p.w, at.ow);
  for (int64_t image = blockIdx.y; image < p.batch; image += gridDim.y) {
    const T* const plane = x + image * in_pixels * p.channels + from;
#pragma unroll kUnroll
    for (int row = 0; row < kRows; ++row) {
      const int oh = at.oh + row;
      if (oh >= p.h.out) break;
      const Taps h = taps_of(p.h, oh);
      Reduced<Wide<T>, average, kIndices> sums[count];
      if constexpr (K > 0)
        take_square<T, count, average, kIndices, K>(sums, p, plane, unit, d.first, oh * p.h.stride - p.h.pad_lo,
                                                    at.ow * p.w.stride - p.w.pad_lo);
      else
        take_any<T, count, average, kIndices>(sums, p, plane, unit, d, h, w);
      const int64_t place =
          image * out_pixels * p.channels + to + ((int64_t{at.od} * p.h.out + oh) * p.w.out + at.ow) * unit;
      Channels<T, count> result;
      Wide<T> divisor(1);
      if constexpr (average) divisor = divisor_of<Wide<T>>(p, d, h, w);
#pragma unroll
      for (int c = 0; c < count; ++c) {
        result.at[c] = ptx::narrow<T>(average ? sums[c].value / divisor : sums[c].value);
        if constexpr (kIndices) store_global(index + place + c, int64_t{sums[c].place});
      }
      store_channels<T, count>(y + place, result);
    }
  }
}

template <class T, int count, bool average, bool kIndices, bool kChannelsLast>
auto kernel_for(const DevicePool& p) {
  const auto plain = [](const PoolAxis& a) { return !a.adaptive && a.dilation == 1; };
  const bool flat = plain(p.d) && p.d.kernel == 1 && p.d.pad_lo == 0 && p.d.pad_hi == 0;
  const int square = flat && plain(p.h) && plain(p.w) && p.h.kernel == p.w.kernel ? p.h.kernel : 0;
  if constexpr (sizeof(T) < sizeof(double)) {
    if (square == 2) return pool_windows<T, count, average, kIndices, kChannelsLast, 2>;
    if (square == 3) return pool_windows<T, count, average, kIndices, kChannelsLast, 3>;
  }
  return pool_windows<T, count, average, kIndices, kChannelsLast, 0>;
}

template <class T, int count, bool average, bool kIndices, bool kChannelsLast>
void launch_windows(const DevicePool& p, const void* x, void* y, int64_t* index, Stream& stream) {
  const int64_t vectors = p.channels / count;
  const int64_t items = vectors * p.d.out * ((p.h.out + kRows - 1) / kRows) * p.w.out;
  if (items > INT32_MAX - kThreads) throw Unsupported("pooling on CUDA: an image has 2^31 results or more");
  const dim3 grid(static_cast<unsigned>((items + kThreads - 1) / kThreads),
                  static_cast<unsigned>(std::min<int64_t>(p.batch, kMostBlocksYZ)));
  launch("pool_windows", kernel_for<T, count, average, kIndices, kChannelsLast>(p), grid, kThreads, 0, stream, p,
         static_cast<const T*>(x), static_cast<T*>(y), index, static_cast<int>(items), static_cast<int>(vectors));
}

template <class T, bool average, bool kIndices>
void launch_layout(const DevicePool& p, Layout layout, const void* x, void* y, int64_t* index, Stream& stream) {
  constexpr int kWide = 16 / static_cast<int>(sizeof(T));
  if (layout == Layout::nchw) return launch_windows<T, 1, average, kIndices, false>(p, x, y, index, stream);
  if (p.channels % kWide == 0 && aligned_16(x) && aligned_16(y))
    return launch_windows<T, kWide, average, kIndices, true>(p, x, y, index, stream);
  launch_windows<T, 1, average, kIndices, true>(p, x, y, index, stream);
}

}  // namespace

void pool_by_windows(const PoolProblem& problem, Element element, const void* x, void* y, int64_t* index,
                     Stream& stream) {
  const DevicePool p = device_pool(problem);
  visit_element(element, [&](auto zero) {
    using T = decltype(zero);
    if (problem.kind == PoolKind::average)
      launch_layout<T, true, false>(p, problem.layout, x, y, index, stream);
    else if (index)
      launch_layout<T, false, true>(p, problem.layout, x, y, index, stream);
    else
      launch_layout<T, false, false>(p, problem.layout, x, y, index, stream);
  });
}

}  // namespace fastconv::cuda
