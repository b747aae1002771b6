// The block tile of the matrix loop nests over float32 operands, and the three ways to multiply it.
//
//   c[m, n] += sum over k of a[k, m] * b[k, n]        m < M, n < N, k < kDepth
// Operands in shared memory, k major (row stride M + kPad and N + kPad floats). Kernel words here are those of
// matrices.
//
//   SimtTile       fused multiply-adds; a thread owns 8 x N/16: rows 4 ty + {0..3} and M/2 + 4 ty + {0..3}, columns
//   alike TensorTile<1>  mma tf32, operands rounded to 11 bits TensorTile<3>  each operand as a sum of two tf32;
//   big*big + (big*small + small*big), the first added up by ordinary
//                  additions since a tensor core's own rounds toward zero (Ootomo & Yokota, Recovering single precision
//                  accuracy from Tensor Cores, 2022). The small sum is kept apart to the end: with an infinite operand
//                  it is NaN where the product is infinite, and then it is left out.
// kPad: row stride = 8 mod 32 banks, so that the fragment reads of mma (4 rows by 8 columns) meet 32 different banks,
// and a multiple of 4 floats, for reads of 16 bytes.
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

template <int M, int N, int kTerms>
struct TensorTile {
  // Warps of 64 x 32 in a tile of 128 x 128 (8 of them), of 32 x 32 in one of 64 x 64 (4).
  static constexpr int kWarpM = M / 2, kWarpN = 32, kRows = kWarpM / 16, kColumns = kWarpN / 8;
  static_assert(TileShape<M, N>::kThreads / 32 == (M / kWarpM) * (N / kWarpN));
  float c[kRows][kColumns][4];
  float small[kTerms == 3 ? kRows : 1][kColumns][4];

  __device__ __forceinline__ int group() const { return static_cast<int>(threadIdx.x) % 32 / 4; }
  __device__ __forceinline__ int member() const { return static_cast<int>(threadIdx.x) % 4; }
  __device__ __forceinline__ int first_row() const { return static_cast<int>(threadIdx.x) / 32 % 2 * kWarpM; }
  __device__ __forceinline__ int first_column() const { return static_cast<int>(threadIdx.x) / 64 * kWarpN; }

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int j = 0; j < kColumns; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) c[i][j][e] = 0, small[kTerms == 3 ? i : 0][j][e] = 0;
  }

  __device__ __forceinline__ void multiply(const float* a, const float* b) {
    constexpr int kStrideA = TileShape<M, N>::kStrideA, kStrideB = TileShape<M, N>::kStrideB;
    [[maybe_unused]] constexpr int kUnroll =
        kTerms == 3 ? 1 : 2;  // the fragments of two steps and their splits do not fit in registers
#pragma unroll kUnroll
    for (int k = 0; k < kDepth; k += 8) {
      uint32_t big_b[kColumns][2], small_b[kColumns][2];
#pragma unroll
      for (int j = 0; j < kColumns; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const float* const at = b + (k + member() + 4 * e) * kStrideB + first_column() + 8 * j + group();
          const Split<kTerms> value(load_shared(at));
          big_b[j][e] = value.big, small_b[j][e] = value.small;
        }
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        uint32_t big_a[4], small_a[4];
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const float* const at =
              a + (k + member() + 4 * (e / 2)) * kStrideA + first_row() + 16 * i + group() + 8 * (e % 2);
          const Split<kTerms> value(load_shared(at));
          big_a[e] = value.big, small_a[e] = value.small;
        }
#pragma unroll
        for (int j = 0; j < kColumns; ++j) {
          if constexpr (kTerms == 1) {
            ptx::multiply_tf32(c[i][j], big_a, big_b[j]);
          } else {
            float part[4] = {0, 0, 0, 0};
            ptx::multiply_tf32(part, big_a, big_b[j]);
            ptx::multiply_tf32(small[i][j], small_a, big_b[j]);
            ptx::multiply_tf32(small[i][j], big_a, small_b[j]);
#pragma unroll
            for (int e = 0; e < 4; ++e) c[i][j][e] += part[e];
          }
        }
      }
    }
  }

  template <class F>
  __device__ __forceinline__ void each(const F& f) const {
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int j = 0; j < kColumns; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const float rest = small[kTerms == 3 ? i : 0][j][e];
          f(first_row() + 16 * i + group() + 8 * (e / 2), first_column() + 8 * j + 2 * member() + e % 2,
            c[i][j][e] + (rest - rest == 0.0f ? rest : 0.0f));
        }
  }
};

}  // namespace fastconv::cuda
