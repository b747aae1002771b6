// The block tile of the matrix loop nests over 16-bit operands, multiplied by mma.m16n8k16 with sums in float.
//
//   c[m, n] += sum over k of a[m, k] * b[n, k]        m < M, n < N, k < kHalfDepth
// Rows of 32 elements, 64 bytes, in shared memory. Their four chunks of 16 bytes are permuted: chunk q of row r is at
// q ^ (r / 2) % 4, so that the eight rows an ldmatrix reads at one q lie in 32 different banks, and so do two whole
// rows written together. Four warps of M/2 x N/2.
#pragma once

#include "memory.cuh"

namespace fastconv::cuda {

constexpr int kHalfDepth = 32, kHalfChunks = kHalfDepth / 8, kHalfThreads = 128;

// Where chunk `chunk` of row `row` is, in elements.
__device__ __forceinline__ int half_place(int row, int chunk) {
  return row * kHalfDepth + (chunk ^ (row / 2 % kHalfChunks)) * 8;
}

template <class T, int M, int N>
struct HalfTile {
  static constexpr int kWarpM = M / 2, kWarpN = N / 2, kRows = kWarpM / 16, kColumns = kWarpN / 8;
  static_assert(kWarpM % 16 == 0 && kWarpN % 16 == 0);
  float c[kRows][kColumns][4];

  __device__ __forceinline__ int lane() const { return static_cast<int>(threadIdx.x) % 32; }
  __device__ __forceinline__ int first_row() const { return static_cast<int>(threadIdx.x) / 32 % 2 * kWarpM; }
  __device__ __forceinline__ int first_column() const { return static_cast<int>(threadIdx.x) / 64 * kWarpN; }

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int j = 0; j < kColumns; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) c[i][j][e] = 0;
  }

  __device__ __forceinline__ void multiply(const uint16_t* a, const uint16_t* b) {
    const int matrix = lane() / 8, line = lane() % 8;
#pragma unroll
    for (int k = 0; k < kHalfChunks; k += 2) {
      uint32_t right[kColumns / 2][4];  // of two blocks of 8 columns: both halves of k of one, then of the other
#pragma unroll
      for (int j = 0; j < kColumns / 2; ++j)
        ptx::load_matrices(right[j], b + half_place(first_column() + 16 * j + matrix / 2 * 8 + line, k + matrix % 2));
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        uint32_t left[4];
        ptx::load_matrices(left, a + half_place(first_row() + 16 * i + matrix % 2 * 8 + line, k + matrix / 2));
#pragma unroll
        for (int j = 0; j < kColumns; ++j) {
          const uint32_t pair[2] = {right[j / 2][j % 2 * 2], right[j / 2][j % 2 * 2 + 1]};
          ptx::multiply(c[i][j], left, pair, T{});
        }
      }
    }
  }

  // f(m, n, value) for each element this thread owns.
  template <class F>
  __device__ __forceinline__ void each(const F& f) const {
    const int group = lane() / 4, member = lane() % 4;
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int j = 0; j < kColumns; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          f(first_row() + 16 * i + group + 8 * (e / 2), first_column() + 8 * j + 2 * member + e % 2, c[i][j][e]);
  }
};

}  // namespace fastconv::cuda
