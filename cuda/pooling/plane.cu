// Global pooling: one window per channel, the whole plane.
//
// NCHW   a warp per plane: lanes run along the pixels, then join their parts by shuffles
// NHWC   a warp per 32 channels and every eighth pixel: lanes run along the channels; the eight warps' parts are joined
//        in order through shared memory
// The order of a sum follows from the shape alone. grid = (planes / 8, or channels / 32 x images).
#include "../kernels/pooling.cuh"
#include "pooling.h"

namespace fastconv::cuda {
namespace {

constexpr int kWarps = 8, kThreads = 32 * kWarps;
constexpr uint32_t kAll = 0xffffffffu;

template <class T, bool average, bool kIndices>
__device__ __forceinline__ void store_result(const Reduced<Wide<T>, average, kIndices>& result, Wide<T> divisor, T* y,
                                             int64_t* index, int64_t to) {
  store_global(y + to, ptx::narrow<T>(average ? result.value / divisor : result.value));
  if constexpr (kIndices) store_global(index + to, int64_t{result.place});
}

template <class T, bool average, bool kIndices>
__global__ void __launch_bounds__(kThreads)
    pool_planes(const T* x, T* y, int64_t* index, int64_t planes, int64_t pixels, Wide<T> divisor) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t plane = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (plane >= planes) return;  // whole warps
  Reduced<Wide<T>, average, kIndices> own;
  const T* const from = x + plane * pixels;
  for (int at = lane; at < static_cast<int>(pixels); at += 32) own.take(ptx::widen(load_global(from + at)), at);
#pragma unroll
  for (int flip = 16; flip > 0; flip /= 2) {
    const Wide<T> value = __shfl_xor_sync(kAll, own.value, flip);
    int place = 0;
    if constexpr (kIndices) place = __shfl_xor_sync(kAll, own.place, flip);
    own.join(value, place);
  }
  if (lane == 0) store_result<T, average, kIndices>(own, divisor, y, index, plane);
}

template <class T, bool average, bool kIndices>
__global__ void __launch_bounds__(kThreads)
    pool_columns(const T* x, T* y, int64_t* index, int64_t channels, int64_t pixels, Wide<T> divisor) {
  auto* const values = reinterpret_cast<Wide<T>*>(shared_memory());
  [[maybe_unused]] auto* const places = reinterpret_cast<int*>(values + kThreads);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  const int64_t blocks = (channels + 31) / 32, image = blockIdx.x / blocks,
                channel = blockIdx.x % blocks * 32 + thread % 32;
  Reduced<Wide<T>, average, kIndices> own;
  if (channel < channels) {
    const T* const column = x + image * pixels * channels + channel;
    for (int at = warp; at < static_cast<int>(pixels); at += kWarps)
      own.take(ptx::widen(load_global(column + at * channels)), at);
  }
  store_shared(values + thread, own.value);
  if constexpr (kIndices) store_shared(places + thread, own.place);
  __syncthreads();
  if (warp > 0 || channel >= channels) return;
#pragma unroll
  for (int other = 1; other < kWarps; ++other) {
    int place = 0;
    if constexpr (kIndices) place = load_shared(places + 32 * other + thread);
    own.join(load_shared(values + 32 * other + thread), place);
  }
  store_result<T, average, kIndices>(own, divisor, y, index, image * channels + channel);
}

template <class T, bool average, bool kIndices>
void launch_planes(const PoolProblem& p, const void* x, void* y, int64_t* index, Stream& stream) {
  const int64_t pixels = p.in_pixels();
  if (pixels > INT32_MAX - 64) throw Unsupported("pooling on CUDA: a plane has 2^31 elements or more");
  const auto divisor = static_cast<Wide<T>>(p.divisor ? p.divisor : pixels);
  const bool last = p.layout == Layout::nhwc;
  const int64_t blocks = last ? p.batch * ((p.channels + 31) / 32) : (p.planes() + kWarps - 1) / kWarps;
  if (blocks > INT32_MAX) throw Unsupported("pooling on CUDA: more than 2^31 blocks of planes");
  const auto grid = static_cast<unsigned>(blocks);
  const size_t shared = kThreads * (sizeof(Wide<T>) + (kIndices ? sizeof(int) : 0));
  if (last)
    launch("pool_columns", pool_columns<T, average, kIndices>, grid, kThreads, shared, stream, static_cast<const T*>(x),
           static_cast<T*>(y), index, p.channels, pixels, divisor);
  else
    launch("pool_planes", pool_planes<T, average, kIndices>, grid, kThreads, 0, stream, static_cast<const T*>(x),
           static_cast<T*>(y), index, p.planes(), pixels, divisor);
}

}  // namespace

void pool_whole_planes(const PoolProblem& p, Element element, const void* x, void* y, int64_t* index, Stream& stream) {
  visit_element(element, [&](auto zero) {
    using T = decltype(zero);
    if (p.kind == PoolKind::average)
      launch_planes<T, true, false>(p, x, y, index, stream);
    else if (index)
      launch_planes<T, false, true>(p, x, y, index, stream);
    else
      launch_planes<T, false, false>(p, x, y, index, stream);
  });
}

void run_pool(const PoolProblem& p, Element element, const void* x, void* y, int64_t* index, Stream& stream) {
  p.global() ? pool_whole_planes(p, element, x, y, index, stream) : pool_by_windows(p, element, x, y, index, stream);
}

}  // namespace fastconv::cuda
