// What the pooling loop nests share: a PoolProblem as a kernel's parameter, windows, reductions, vectors of channels.
#pragma once

#include "../../csrc/core/pool_problem.h"
#include "memory.cuh"

namespace fastconv::cuda {

struct PoolAxis {
  int in, out, kernel, stride, dilation, pad_lo, pad_hi;
  bool adaptive;
};

struct DevicePool {
  PoolAxis d, h, w;
  int64_t batch, channels;
  int64_t divisor;  // divisor_override, or 0
  bool count_include_pad;
};

// Throws where a number that kernels keep in 32 bits does not fit.
inline DevicePool device_pool(const PoolProblem& p) {
  constexpr int64_t kMost = (int64_t{1} << 30) - 1;
  DevicePool out{};
  PoolAxis* const axes[3] = {&out.d, &out.h, &out.w};
  for (int i = 0; i < 3; ++i) {
    const Axis& a = p.axes[static_cast<size_t>(i)];
    if (a.in > kMost || a.out > kMost || a.window() > kMost || a.stride > kMost || a.pad_lo > kMost || a.pad_hi > kMost)
      throw Unsupported("pooling on CUDA: an extent of the window or the plane is beyond 2^30");
    if (p.adaptive[static_cast<size_t>(i)] && (a.out + 1) * (a.in + 1) > int64_t{UINT32_MAX})
      throw Unsupported("adaptive pooling on CUDA: the product of the sizes along an axis is beyond 2^32");
    const auto narrow = [](int64_t n) { return static_cast<int>(n); };
    *axes[i] = {narrow(a.in),       narrow(a.out),    narrow(a.kernel), narrow(a.stride),
                narrow(a.dilation), narrow(a.pad_lo), narrow(a.pad_hi), p.adaptive[static_cast<size_t>(i)]};
  }
  if (p.in_pixels() > INT32_MAX) throw Unsupported("pooling on CUDA: a plane has 2^31 elements or more");
  out.batch = p.batch, out.channels = p.channels, out.divisor = p.divisor;
  out.count_include_pad = p.count_include_pad;
  return out;
}

// core/window.h in 32 bits.
struct Taps {
  int first, count, extent;
};

// (i * extent + more) / parts of an adaptive axis; a division of 64 bits would be a call with a stack.
__device__ __forceinline__ int share_of(int i, int extent, int parts, int more = 0) {
  const auto product = static_cast<uint32_t>(i) * static_cast<uint32_t>(extent) + static_cast<uint32_t>(more);
  return static_cast<int>(product / static_cast<uint32_t>(parts));
}

// window_at and adaptive_window of core/axis.h.
__device__ __forceinline__ Taps taps_of(const PoolAxis& a, int o) {
  if (a.adaptive) {
    const int first = share_of(o, a.in, a.out), end = share_of(o + 1, a.in, a.out, a.out - 1);
    return {first, end - first, end - first};
  }
  const int start = o * a.stride - a.pad_lo, reach = start + (a.kernel - 1) * a.dilation + 1;
  const int first = start < 0 ? start + (-start + a.dilation - 1) / a.dilation * a.dilation : start;
  const int end = min(reach, a.in);
  return {first, first < end ? (end - first - 1) / a.dilation + 1 : 0, min(reach, a.in + a.pad_hi) - start};
}

// What an average divides by.
template <class W>
__device__ __forceinline__ W divisor_of(const DevicePool& p, const Taps& d, const Taps& h, const Taps& w) {
  if (p.divisor) return static_cast<W>(p.divisor);
  return p.count_include_pad ? static_cast<W>(int64_t{d.extent} * h.extent) * static_cast<W>(w.extent)
                             : static_cast<W>(int64_t{d.count} * h.count) * static_cast<W>(w.count);
}

template <class W>
__device__ __forceinline__ W lowest() {
  return -static_cast<W>(__builtin_inf());
}

// One result under way. `take` is the rule of the CPU: the first of equals, the last of several NaN.
template <class W, bool average, bool kIndices>
struct Reduced {
  W value = average ? W(0) : lowest<W>();
  int place = -1;

  __device__ __forceinline__ void take(W other, [[maybe_unused]] int at) {
    if constexpr (average) {
      value += other;
    } else if constexpr (kIndices) {
      if (place < 0 || other > value || other != other) value = other, place = at;
    } else {
      if (other > value || other != other) value = other;
    }
  }
  // Of two parts of a window, in any order.
  __device__ __forceinline__ void join(W other, [[maybe_unused]] int at) {
    if constexpr (average) {
      value += other;
    } else if constexpr (kIndices) {
      if (at < 0) return;
      const bool nan = value != value, other_nan = other != other;
      const bool later = nan && other_nan ? at > place : !nan && (other_nan || other > value);
      if (place < 0 || later || (other == value && at < place)) value = other, place = at;
    } else {
      if (other > value || other != other) value = other;
    }
  }
};

}  // namespace fastconv::cuda
