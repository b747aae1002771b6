// The block tile of the matrix loop nests on tensor cores: 16-bit operands by mma.m16n8k16, float32 ones as one or
// three tf32 products by mma.m16n8k8, sums in float.
//
//   c[m, n] += sum over k of a[m, k] * b[n, k]        m < M, n < N, k < kStep
// Rows of 64 bytes in shared memory: 32 or 16 elements in four chunks of 16 bytes. Chunk q of row r is at
// q ^ (r / 2) % 4, so that the eight rows an ldmatrix reads at one q lie in 32 different banks, and so do two whole
// rows written together. ldmatrix hands out pairs of 16 bits, which as well are one float32: the fragments of tf32.
// With kPlanes b is as the planes of NCHW are, b[k, n] in rows of N + kPlanePad elements: 16-bit elements are turned by
// ldmatrix, floats read one by one; the rows that a warp reads together begin 16 bytes or 8 banks further each.
// Four warps of M/2 x N/2. The three products of float32 are those of kernels/float_tile.cuh.
#pragma once

#include "float_tile.cuh"

namespace fastconv::cuda {

constexpr int kMmaChunks = 4, kMmaThreads = 128;

// What is multiplied: half16, bfloat16, or floats as one tf32 or as three.
struct Tf32 {};
struct Tf32x3 {};
template <class Op>
struct OperandOf {
  using Element = Op;
  using Storage = uint16_t;
  static constexpr int kTerms = 1;
};
template <>
struct OperandOf<Tf32> {
  using Element = float;
  using Storage = uint32_t;
  static constexpr int kTerms = 1;
};
template <>
struct OperandOf<Tf32x3> : OperandOf<Tf32> {
  static constexpr int kTerms = 3;
};
template <class Op>
using StorageOf = typename OperandOf<Op>::Storage;
template <class Op>
using ElementOf = typename OperandOf<Op>::Element;
template <class Op>
constexpr int kChunk = 16 / static_cast<int>(sizeof(StorageOf<Op>));  // elements of 16 bytes
template <class Op>
constexpr int kStep = kMmaChunks * kChunk<Op>;

constexpr int kPlanePad = 8;

// Where chunk `chunk` of row `row` is, in elements.
template <class Op>
__device__ __forceinline__ int chunk_place(int row, int chunk) {
  return row * kStep<Op> + (chunk ^ (row / 2 % kMmaChunks)) * kChunk<Op>;
}

// A fragment as it is multiplied: the parts of floats, or 16-bit pairs as they are.
template <class Op, int count>
struct Fragment {
  static constexpr bool kSplit = sizeof(StorageOf<Op>) == 4;
  uint32_t big[count], small[count];

  __device__ __forceinline__ void set(int i, uint32_t bits) {
    if constexpr (kSplit) {
      const Split<OperandOf<Op>::kTerms> value(ptx::as_float(bits));
      big[i] = value.big, small[i] = value.small;
    } else {
      big[i] = bits;
    }
  }
};

template <class Op, int M, int N>
struct MmaTile {
  static constexpr int kWarpM = M / 2, kWarpN = N / 2, kRows = kWarpM / 16, kColumns = kWarpN / 8;
  static constexpr bool kThree = OperandOf<Op>::kTerms == 3;
  static_assert(kWarpM % 16 == 0 && kWarpN % 16 == 0);
  float c[kRows][kColumns][4];
  float small[kThree ? kRows : 1][kColumns][4];

  __device__ __forceinline__ int lane() const { return static_cast<int>(threadIdx.x) % 32; }
  __device__ __forceinline__ int first_row() const { return static_cast<int>(threadIdx.x) / 32 % 2 * kWarpM; }
  __device__ __forceinline__ int first_column() const { return static_cast<int>(threadIdx.x) / 64 * kWarpN; }

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int j = 0; j < kColumns; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) c[i][j][e] = 0, small[kThree ? i : 0][j][e] = 0;
  }

  template <bool kPlanes = false>
  __device__ __forceinline__ void multiply(const StorageOf<Op>* a, const StorageOf<Op>* b) {
    const int matrix = lane() / 8, line = lane() % 8;
    [[maybe_unused]] constexpr int kUnroll = kThree ? 1 : 2;  // the parts of two steps do not fit in registers
#pragma unroll kUnroll
    for (int k = 0; k < kMmaChunks; k += 2) {
      Fragment<Op, 2> right[kColumns];
#pragma unroll
      for (int j = 0; j < kColumns; j += 2) {  // both halves of k of 8 columns, then of the next 8
        uint32_t bits[4];
        if constexpr (kPlanes)
          load_planes(bits, b + k * kChunk<Op> * (N + kPlanePad) + first_column() + 8 * j);
        else
          ptx::load_matrices(bits, b + chunk_place<Op>(first_column() + 8 * j + matrix / 2 * 8 + line, k + matrix % 2));
#pragma unroll
        for (int e = 0; e < 4; ++e) right[j + e / 2].set(e % 2, bits[e]);
      }
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        uint32_t bits[4];
        ptx::load_matrices(bits, a + chunk_place<Op>(first_row() + 16 * i + matrix % 2 * 8 + line, k + matrix / 2));
        Fragment<Op, 4> left;
#pragma unroll
        for (int e = 0; e < 4; ++e) left.set(e, bits[e]);
#pragma unroll
        for (int j = 0; j < kColumns; ++j) add(i, j, left, right[j]);
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
        for (int e = 0; e < 4; ++e) {
          const float rest = kThree ? small[kThree ? i : 0][j][e] : 0.0f;
          f(first_row() + 16 * i + group + 8 * (e / 2), first_column() + 8 * j + 2 * member + e % 2,
            c[i][j][e] + (rest - rest == 0.0f ? rest : 0.0f));
        }
  }

 private:
  // What load_matrices would read of the transpose of b, for 16 columns from `b` on.
  __device__ __forceinline__ void load_planes(uint32_t (&bits)[4], const StorageOf<Op>* b) const {
    constexpr int kRow = N + kPlanePad;
    if constexpr (sizeof(StorageOf<Op>) == 2) {
      const int matrix = lane() / 8, line = lane() % 8;
      ptx::load_matrices_turned(bits, b + (matrix % 2 * 8 + line) * kRow + matrix / 2 * 8);
    } else {
      const int group = lane() / 4, member = lane() % 4;
#pragma unroll
      for (int e = 0; e < 4; ++e) bits[e] = load_shared(b + (e % 2 * 4 + member) * kRow + e / 2 * 8 + group);
    }
  }

  __device__ __forceinline__ void add(int i, int j, const Fragment<Op, 4>& left, const Fragment<Op, 2>& right) {
    if constexpr (kThree) {
      float part[4] = {0, 0, 0, 0};
      ptx::multiply_tf32(part, left.big, right.big);
      ptx::multiply_tf32(small[i][j], left.small, right.big);
      ptx::multiply_tf32(small[i][j], left.big, right.small);
#pragma unroll
      for (int e = 0; e < 4; ++e) c[i][j][e] += part[e];
    } else if constexpr (sizeof(StorageOf<Op>) == 4) {
      ptx::multiply_tf32(c[i][j], left.big, right.big);
    } else {
      ptx::multiply(c[i][j], left.big, right.big, Op{});
    }
  }
};

}  // namespace fastconv::cuda
