// Forward pooling, and values placed by their index: the gradient of the maximum, and max unpooling.
#include "pool.h"

#include "half.h"
#include "pooling/pooling.h"

namespace fastconv {
namespace {

using namespace pooling;

// Planes whose flat indices do not fit into the kernels' lanes: 2^30 pixels in float32.
template <class T>
void scan_all(const PoolProblem& p, const Operands<T>& o, Interrupt& interrupt) {
  const Windows<T> windows(p, 0);
  const bool planes = p.layout == Layout::nchw;
  const int64_t out_pixels = p.out_pixels(), in_pixels = p.in_pixels(), unit = planes ? 1 : p.channels;
  double work = 1;
  for (const Axis& axis : p.axes) work *= static_cast<double>(std::min(axis.kernel, axis.in));
  parallel_ranges(p.planes() * out_pixels, work, interrupt, [&](int64_t begin, int64_t end, int) {
    for (int64_t at = begin; at < end; ++at) {
      const int64_t result = at / unit % out_pixels;
      const int64_t image = at / unit / out_pixels * unit * in_pixels;
      scan_window(p, windows, o.x + image + at % unit, unit, result, o.y + at, o.index + at);
    }
  });
}

template <class T>
void pool(const PoolProblem& p, const Operands<T>& o, Interrupt& interrupt) {
  const auto& kernel = typed<T>(kernels_for(this_machine().isa).pool);
  if (o.index && !places_fit<T>(p))
    scan_all(p, o, interrupt);
  else if (p.layout == Layout::nchw)
    pool_planes(p, o, kernel, interrupt);
  else
    pool_pixels(p, o, kernel, interrupt);
}

// Channels of NHWC that one item takes: a cache line of float32, so that no two threads write to the same one.
constexpr int64_t kChannelBlock = 16;

// f(image, first channel, channels): in NCHW one plane at a time. Channel c of value i is at
// image * values * channels + (NCHW: c * values + i; NHWC: i * channels + c).
template <class F>
void for_channel_blocks(const PlaceProblem& p, Interrupt& interrupt, const F& f) {
  const int64_t block = p.layout == Layout::nchw ? 1 : kChannelBlock, blocks = (p.channels + block - 1) / block;
  const double work = static_cast<double>(p.values + p.targets) * static_cast<double>(block);
  parallel_ranges(p.batch * blocks, work, interrupt, [&](int64_t begin, int64_t end, int) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t first = item % blocks * block;
      f(item / blocks, first, std::min(block, p.channels - first));
    }
  });
}

// `unit` elements apart, `count` channels side by side: constants 1 and 1 for planes.
template <bool add, class T>
inline void place_block(const PlaceProblem& p, const int64_t* index, const T* values, T* targets, int64_t unit,
                        int64_t count) {
  if (unit == 1)
    std::fill_n(targets, p.targets, T{0});
  else
    for (int64_t i = 0; i < p.targets; ++i) std::fill_n(targets + i * unit, count, T{0});
  for (int64_t i = 0; i < p.values; ++i)
    for (int64_t c = 0; c < count; ++c) {
      T& target = targets[index[i * unit + c] * unit + c];
      target = add ? target + values[i * unit + c] : values[i * unit + c];
    }
}

template <bool add, class T>
void place(const PlaceProblem& p, const int64_t* index, const T* values, T* targets, Interrupt& interrupt) {
  const bool planes = p.layout == Layout::nchw;
  for_channel_blocks(p, interrupt, [&](int64_t image, int64_t first, int64_t count) {
    const int64_t from = image * p.values * p.channels + first * (planes ? p.values : 1);
    T* const to = targets + image * p.targets * p.channels + first * (planes ? p.targets : 1);
    if (planes)
      place_block<add>(p, index + from, values + from, to, 1, 1);
    else
      place_block<add>(p, index + from, values + from, to, p.channels, count);
  });
}

template <class T>
void take(const PlaceProblem& p, const int64_t* index, const T* targets, T* values, Interrupt& interrupt) {
  const bool planes = p.layout == Layout::nchw;
  const int64_t unit = planes ? 1 : p.channels;
  for_channel_blocks(p, interrupt, [&](int64_t image, int64_t first, int64_t count) {
    const int64_t from = image * p.values * p.channels + first * (planes ? p.values : 1);
    const T* const to = targets + image * p.targets * p.channels + first * (planes ? p.targets : 1);
    for (int64_t i = 0; i < p.values; ++i)
      for (int64_t c = 0; c < count; ++c) {
        const int64_t at = from + i * unit + c;
        values[at] = to[index[at] * unit + c];
      }
  });
}

}  // namespace

bool run_pool(const PoolProblem& p, const void* x, void* y, int64_t* index, Interrupt::Poll poll) {
  Interrupt interrupt(poll);
  if (is_half(p.dtype)) {
    PoolProblem wide = p;
    wide.dtype = DType::float32;
    const int64_t from = p.channels * p.in_pixels(), to = p.channels * p.out_pixels();
    in_float32(p.dtype, p.batch, from, to, x, y, interrupt, [&](int64_t image, int64_t images, float* xs, float* ys) {
      wide.batch = images;
      pool<float>(wide, {xs, ys, index ? index + image * to : nullptr}, interrupt);
    });
    return !interrupt.stopped();
  }
  visit_dtype(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    pool<T>(p, {static_cast<const T*>(x), static_cast<T*>(y), index}, interrupt);
  });
  return !interrupt.stopped();
}

int64_t find_bad_index(const PlaceProblem& p, const int64_t* index) {
  const int64_t count = p.batch * p.channels * p.values;
  std::atomic<bool> bad{false};
  Interrupt never;  // it reads each index once
  constexpr int64_t kIndexBlock = 4096;
  parallel_ranges((count + kIndexBlock - 1) / kIndexBlock, kIndexBlock, never, [&](int64_t begin, int64_t end, int) {
    // The sign of `at` or of `last - at` is set for an index outside: two operations that every ISA has for 64 bits.
    const auto last = static_cast<uint64_t>(p.targets - 1);
    uint64_t signs = 0;
    for (int64_t i = begin * kIndexBlock; i < std::min(end * kIndexBlock, count); ++i) {
      const auto at = static_cast<uint64_t>(index[i]);
      signs |= at | (last - at);
    }
    if (signs >> 63) bad.store(true, std::memory_order_relaxed);
  });
  if (!bad) return -1;
  return std::find_if(index, index + count, [&](int64_t at) { return at < 0 || at >= p.targets; }) - index;
}

bool run_place(const PlaceProblem& p, const int64_t* index, const void* values, void* targets, bool add,
               Interrupt::Poll poll) {
  Interrupt interrupt(poll);
  if (is_half(p.dtype)) {
    PlaceProblem wide = p;
    const int64_t from = p.channels * p.values, to = p.channels * p.targets;
    in_float32(p.dtype, p.batch, from, to, values, targets, interrupt,
               [&](int64_t image, int64_t images, float* few, float* many) {
                 wide.batch = images;
                 const int64_t* const places = index + image * from;
                 add ? place<true>(wide, places, few, many, interrupt)
                     : place<false>(wide, places, few, many, interrupt);
               });
    return !interrupt.stopped();
  }
  visit_dtype(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* const from = static_cast<const T*>(values);
    T* const to = static_cast<T*>(targets);
    add ? place<true>(p, index, from, to, interrupt) : place<false>(p, index, from, to, interrupt);
  });
  return !interrupt.stopped();
}

bool run_take(const PlaceProblem& p, const int64_t* index, const void* targets, void* values, Interrupt::Poll poll) {
  Interrupt interrupt(poll);
  if (is_half(p.dtype)) {
    PlaceProblem wide = p;
    const int64_t from = p.channels * p.targets, to = p.channels * p.values;
    in_float32(p.dtype, p.batch, from, to, targets, values, interrupt,
               [&](int64_t image, int64_t images, float* many, float* few) {
                 wide.batch = images;
                 take<float>(wide, index + image * to, many, few, interrupt);
               });
    return !interrupt.stopped();
  }
  visit_dtype(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    take<T>(p, index, static_cast<const T*>(targets), static_cast<T*>(values), interrupt);
  });
  return !interrupt.stopped();
}

}  // namespace fastconv
