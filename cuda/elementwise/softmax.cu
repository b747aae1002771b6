// Softmax and its logarithm, of x seen as (outer, along, inner).
//
// rows      inner = 1: a warp per row, lanes on neighbouring elements; partial maxima and sums meet by shuffles
// columns   inner > 1: a thread per sum, lanes on neighbouring sums
// Three passes each: the maximum, the sum, the result; the second and third read what caches hold of the first. A NaN
// anywhere makes a whole row NaN, as does an infinity that is its maximum.
#include <cmath>
#include <limits>

#include "../elementwise.h"
#include "../kernels/memory.cuh"

namespace fastconv::cuda {
namespace {

constexpr int kWarps = 4, kThreads = 32 * kWarps;
constexpr uint32_t kAll = 0xffffffffu;

// What a row or column is reduced to.
template <class Wide>
struct Reduced {
  Wide most, sum;

  template <bool logarithm>
  __device__ __forceinline__ Wide result(Wide value) const {
    if constexpr (logarithm) return value - most - std::log(sum);
    return std::exp(value - most) / sum;
  }
};

template <class T, bool logarithm>
__global__ void __launch_bounds__(kThreads) softmax_rows(const T* x, T* y, int64_t rows, int64_t along) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (row >= rows) return;  // whole warps
  x += row * along, y += row * along;
  Reduced<Wide<T>> r{-std::numeric_limits<Wide<T>>::infinity(), 0};
  for (int64_t i = lane; i < along; i += 32) {
    const Wide<T> value = ptx::widen(load_global(x + i));
    if (value > r.most) r.most = value;
  }
  for (int flip = 16; flip; flip /= 2) {
    const Wide<T> other = __shfl_xor_sync(kAll, r.most, flip);
    if (other > r.most) r.most = other;
  }
  for (int64_t i = lane; i < along; i += 32) r.sum += std::exp(ptx::widen(load_global(x + i)) - r.most);
  for (int flip = 16; flip; flip /= 2) r.sum += __shfl_xor_sync(kAll, r.sum, flip);
  for (int64_t i = lane; i < along; i += 32)
    store_global(y + i, ptx::narrow<T>(r.template result<logarithm>(ptx::widen(load_global(x + i)))));
}

template <class T, bool logarithm>
__global__ void __launch_bounds__(kThreads)
    softmax_columns(const T* x, T* y, int64_t columns, int64_t along, int64_t inner) {
  const int64_t column = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (column >= columns) return;
  const int64_t first = column / inner * along * inner + column % inner;
  x += first, y += first;
  Reduced<Wide<T>> r{-std::numeric_limits<Wide<T>>::infinity(), 0};
  for (int64_t i = 0; i < along; ++i) {
    const Wide<T> value = ptx::widen(load_global(x + i * inner));
    if (value > r.most) r.most = value;
  }
  for (int64_t i = 0; i < along; ++i) r.sum += std::exp(ptx::widen(load_global(x + i * inner)) - r.most);
  for (int64_t i = 0; i < along; ++i)
    store_global(y + i * inner, ptx::narrow<T>(r.template result<logarithm>(ptx::widen(load_global(x + i * inner)))));
}

template <class T, bool logarithm>
void launch_softmax(int64_t outer, int64_t along, int64_t inner, const T* x, T* y, Stream& stream) {
  const int64_t sums = outer * inner, per_block = inner == 1 ? kWarps : kThreads;
  const int64_t blocks = (sums + per_block - 1) / per_block;
  if (blocks > kMostBlocksX) throw Unsupported("softmax on CUDA: more than 2^33 sums");
  const dim3 grid(static_cast<unsigned>(blocks));
  if (inner == 1)
    launch("softmax_rows", softmax_rows<T, logarithm>, grid, kThreads, 0, stream, x, y, sums, along);
  else
    launch("softmax_columns", softmax_columns<T, logarithm>, grid, kThreads, 0, stream, x, y, sums, along, inner);
}

}  // namespace

void run_softmax(Element element, int64_t outer, int64_t along, int64_t inner, bool logarithm, const void* x, void* y,
                 Stream& stream) {
  if (along == 0) return;
  visit_element(element, [&](auto zero) {
    using T = decltype(zero);
    const auto* from = static_cast<const T*>(x);
    if (logarithm)
      launch_softmax<T, true>(outer, along, inner, from, static_cast<T*>(y), stream);
    else
      launch_softmax<T, false>(outer, along, inner, from, static_cast<T*>(y), stream);
  });
}

}  // namespace fastconv::cuda
