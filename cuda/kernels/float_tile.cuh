// Operands of float32: the block tile of fused multiply-adds, and how tensor cores take floats apart.
//
//   c[m, n] += sum over k of a[k, m] * b[k, n]        m < M, n < N, k < kDepth
// Operands in shared memory, k major (row stride M + kPad and N + kPad floats). Kernel words here are those of
// matrices.
//
//   SimtTile    a thread owns 8 x N/16: rows 4 ty + {0..3} and M/2 + 4 ty + {0..3}, columns alike
//   Split<1>    one operand of tf32, rounded to 11 bits
//   Split<3>    a float as a sum of two of them; a product is big*big + (big*small + small*big), the first added up by
//               ordinary additions since a tensor core's own rounds toward zero (Ootomo & Yokota, Recovering single
//               precision accuracy from Tensor Cores, 2022). The small sum is kept apart to the end: with an infinite
//               operand it is NaN where the product is infinite, and then it is left out.
// kPad: row stride = 8 mod 32 banks, and a multiple of 4 floats, for reads of 16 bytes.
#pragma once

#include "memory.cuh"

namespace fastconv::cuda {

constexpr int kDepth = 16;
constexpr int kPad = 8;

template <int M, int N>
struct TileShape {
  static constexpr int kThreads = M / 8 * 16;
  static constexpr int kStrideA = M + kPad, kStrideB = N + kPad;
};

template <int M, int N>
struct SimtTile {
  static constexpr int kColumns = N / 16;
  float c[8][kColumns];

  __device__ __forceinline__ int row(int i) const {
    return static_cast<int>(threadIdx.x) / 16 * 4 + (i < 4 ? i : M / 2 + i - 4);
  }
  __device__ __forceinline__ int column(int j) const {
    return static_cast<int>(threadIdx.x) % 16 * 4 + (j < 4 ? j : N / 2 + j - 4);
  }

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
      for (int j = 0; j < kColumns; ++j) c[i][j] = 0;
  }

  __device__ __forceinline__ void multiply(const float* a, const float* b) {
    constexpr int kStrideA = TileShape<M, N>::kStrideA, kStrideB = TileShape<M, N>::kStrideB;
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      float left[8], right[kColumns];
#pragma unroll
      for (int i = 0; i < 8; i += 4) {
        const float4 v = load_shared(reinterpret_cast<const float4*>(a + k * kStrideA + row(i)));
        left[i] = v.x, left[i + 1] = v.y, left[i + 2] = v.z, left[i + 3] = v.w;
      }
#pragma unroll
      for (int j = 0; j < kColumns; j += 4) {
        const float4 v = load_shared(reinterpret_cast<const float4*>(b + k * kStrideB + column(j)));
        right[j] = v.x, right[j + 1] = v.y, right[j + 2] = v.z, right[j + 3] = v.w;
      }
#pragma unroll
      for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int j = 0; j < kColumns; ++j) c[i][j] += left[i] * right[j];
    }
  }

  // f(m, n, value) for each element this thread owns.
  template <class F>
  __device__ __forceinline__ void each(const F& f) const {
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
      for (int j = 0; j < kColumns; ++j) f(row(i), column(j), c[i][j]);
  }
};

// An operand element as one tf32, or as two that sum to it up to 2^-22 of its size.
template <int kTerms>
struct Split {
  uint32_t big, small;
  __device__ __forceinline__ explicit Split(float value) : big(ptx::to_tf32(value)), small(0) {
    if constexpr (kTerms == 3) {
      const float rest = value - ptx::as_float(big);
      small = rest - rest == 0.0f ? ptx::to_tf32(rest) : 0;  // of an infinity the rest is NaN: it has none
    }
  }
};

}  // namespace fastconv::cuda
