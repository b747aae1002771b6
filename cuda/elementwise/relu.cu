// ReLU: a thread per 16 bytes, or per element where the arrays are not aligned to that.
#include "../elementwise.h"
#include "../kernels/memory.cuh"

namespace fastconv::cuda {
namespace {

constexpr int kThreads = 256;

template <class T, int count>
__global__ void __launch_bounds__(kThreads) relu(const T* x, T* y, int64_t vectors) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= vectors) return;
  auto values = load_channels<T, count>(x + at * count);
#pragma unroll
  for (int i = 0; i < count; ++i)
    if (ptx::widen(values.at[i]) <= 0) values.at[i] = T{};  // also -0; NaN is not below
  store_channels<T, count>(y + at * count, values);
}

template <class T, int count>
void launch_relu(int64_t elements, const T* x, T* y, Stream& stream) {
  const int64_t vectors = elements / count, blocks = (vectors + kThreads - 1) / kThreads;
  if (blocks > kMostBlocksX) throw Unsupported("relu on CUDA: more than 2^39 elements");
  launch("relu", relu<T, count>, dim3(static_cast<unsigned>(blocks)), kThreads, 0, stream, x, y, vectors);
}

}  // namespace

void run_relu(Element element, int64_t count, const void* x, void* y, Stream& stream) {
  visit_element(element, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kWide = 16 / static_cast<int>(sizeof(T));
    const auto* from = static_cast<const T*>(x);
    auto* to = static_cast<T*>(y);
    if (aligned_16(x) && aligned_16(y)) {
      launch_relu<T, kWide>(count, from, to, stream);
      const int64_t done = count / kWide * kWide;
      from += done, to += done, count -= done;
    }
    launch_relu<T, 1>(count, from, to, stream);
  });
}

}  // namespace fastconv::cuda
