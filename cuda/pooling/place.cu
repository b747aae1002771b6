// Values placed in planes by their flat index, and taken from there.
//
// place, NCHW   a warp per plane takes 32 values at a time, in order. Lanes with one target (__match_any_sync) are
//               summed in the order of the lanes and the first of them writes; for unpooling the last writes.
// place, NHWC   a thread per channel walks its values in order: lanes are neighbouring channels.
// So a target has one writer at a time and its sum one order: no atomics. Targets are zeroed before.
// Sums of 16-bit values are rounded each time that the target is written.
// An index outside of its plane is refused before (first_outside) or, where nothing can wait for that, in the capture
// of a graph, has no effect: nothing is placed by it, and zero is taken.
#include "../kernels/pooling.cuh"
#include "../pool.h"

namespace fastconv::cuda {
namespace {

constexpr int kWarps = 4, kThreads = 32 * kWarps;
constexpr uint32_t kAll = 0xffffffffu;
constexpr int64_t kMostStrided = 1 << 20;  // blocks of kernels that walk on over what is left

__device__ __forceinline__ bool is_inside(int64_t place, int64_t size) {
  return static_cast<uint64_t>(place) < static_cast<uint64_t>(size);
}

template <class T>
__device__ __forceinline__ void add_to(T* target, Wide<T> value) {
  store_global(target, ptx::narrow<T>(ptx::widen(load_global(target)) + value));
}

template <class T, bool add>
__global__ void __launch_bounds__(kThreads)
    place_planes(const int64_t* index, const T* values, T* targets, int64_t planes, int64_t count, int64_t size) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t plane = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (plane >= planes) return;  // whole warps
  T* const target = targets + plane * size;
  for (int64_t first = 0; first < count; first += 32) {
    const int64_t place = first + lane < count ? load_global(index + plane * count + first + lane) : size;
    const bool live = is_inside(place, size);
    // The other lanes have targets of their own, behind the plane: they match nobody.
    const int64_t at = live ? place : size + lane;
    Wide<T> value(0);
    if (live) value = ptx::widen(load_global(values + plane * count + first + lane));
    const uint32_t same = __match_any_sync(kAll, static_cast<unsigned long long>(at));
    if constexpr (add) {
      if (__any_sync(kAll, (same & (same - 1)) != 0)) {
        Wide<T> sum(0);
        for (int other = 0; other < 32; ++other) {
          const Wide<T> theirs = __shfl_sync(kAll, value, other);
          if (same >> other & 1) sum += theirs;
        }
        value = sum;
      }
      if (live && (same & ((1u << lane) - 1)) == 0) add_to(target + at, value);
    } else {
      if (live && same >> lane == 1) store_global(target + at, ptx::narrow<T>(value));
    }
    __syncwarp();  // the next values may go to these targets from other lanes
  }
}

template <class T, bool add>
__global__ void __launch_bounds__(kThreads)
    place_pixels(const int64_t* index, const T* values, T* targets, int64_t images, int64_t channels, int64_t count,
                 int64_t size) {
  const int64_t item = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (item >= images * channels) return;
  const int64_t image = item / channels, channel = item % channels;
  const int64_t from = image * count * channels + channel;
  T* const target = targets + image * size * channels + channel;
  constexpr int kAhead = 4;  // reads under way at once
  for (int64_t first = 0; first < count; first += kAhead) {
    int64_t at[kAhead] = {};
    T value[kAhead] = {};
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (first + i >= count) continue;
      at[i] = load_global(index + from + (first + i) * channels);
      value[i] = load_global(values + from + (first + i) * channels);
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (first + i >= count || !is_inside(at[i], size)) continue;
      if constexpr (add)
        add_to(target + at[i] * channels, ptx::widen(value[i]));
      else
        store_global(target + at[i] * channels, value[i]);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    take_values(const int64_t* index, const T* targets, T* values, int64_t all, int64_t channels, int64_t count,
                int64_t size, bool channels_last) {
  for (int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x; at < all; at += int64_t{gridDim.x} * kThreads) {
    const int64_t place = load_global(index + at);
    const int64_t from =
        channels_last ? (at / channels / count * size + place) * channels + at % channels : at / count * size + place;
    store_global(values + at, is_inside(place, size) ? load_global(targets + from) : T{});
  }
}

// A thread keeps the first of its own share; the least of them stays in *bad, whatever the order: it starts as all
// ones.
__global__ void __launch_bounds__(kThreads)
    first_outside(const int64_t* index, unsigned long long* bad, int64_t all, int64_t size) {
  for (int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x; at < all; at += int64_t{gridDim.x} * kThreads) {
    const int64_t place = load_global(index + at);
    if (is_inside(place, size)) continue;
    atomicMin(bad, static_cast<unsigned long long>(at));
    return;
  }
}

unsigned blocks_of(int64_t items, int per_block, const char* what) {
  const int64_t blocks = (items + per_block - 1) / per_block;
  if (blocks > INT32_MAX) throw Unsupported(cat(what, " on CUDA: more than 2^31 blocks of planes"));
  return static_cast<unsigned>(blocks);
}

template <class T, bool add>
void place(const PlaceProblem& p, const int64_t* index, const void* values, void* targets, Stream& stream) {
  const auto* const from = static_cast<const T*>(values);
  auto* const to = static_cast<T*>(targets);
  const int64_t planes = p.batch * p.channels;
  if (p.layout == Layout::nchw)
    launch("place_planes", place_planes<T, add>, blocks_of(planes, kWarps, "placing values"), kThreads, 0, stream,
           index, from, to, planes, p.values, p.targets);
  else
    launch("place_pixels", place_pixels<T, add>, blocks_of(planes, kThreads, "placing values"), kThreads, 0, stream,
           index, from, to, p.batch, p.channels, p.values, p.targets);
}

}  // namespace

void find_bad_index(const PlaceProblem& p, const int64_t* index, int64_t* bad, Stream& stream) {
  fill_bytes(bad, 0xff, sizeof *bad, stream);
  const int64_t all = p.batch * p.channels * p.values;
  launch("first_outside", first_outside, static_cast<unsigned>(std::min((all + kThreads - 1) / kThreads, kMostStrided)),
         kThreads, 0, stream, index, reinterpret_cast<unsigned long long*>(bad), all, p.targets);
}

void run_place(const PlaceProblem& p, Element element, const int64_t* index, const void* values, void* targets,
               bool add, Stream& stream) {
  const size_t bytes = static_cast<size_t>(p.batch * p.channels * p.targets) * size_of(element);
  fill_bytes(targets, 0, bytes, stream);
  visit_element(element, [&](auto zero) {
    using T = decltype(zero);
    add ? place<T, true>(p, index, values, targets, stream) : place<T, false>(p, index, values, targets, stream);
  });
}

void run_take(const PlaceProblem& p, Element element, const int64_t* index, const void* targets, void* values,
              Stream& stream) {
  const int64_t all = p.batch * p.channels * p.values;
  const auto grid = static_cast<unsigned>(std::min((all + kThreads - 1) / kThreads, kMostStrided));
  visit_element(element, [&](auto zero) {
    using T = decltype(zero);
    launch("take_values", take_values<T>, grid, kThreads, 0, stream, index, static_cast<const T*>(targets),
           static_cast<T*>(values), all, p.channels, p.values, p.targets, p.layout == Layout::nhwc);
  });
}

}  // namespace fastconv::cuda
