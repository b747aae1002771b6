// One vector type per element type, in GCC and Clang vector extensions; included by ISA files only.
//
// An ISA file is compiled with flags of its own, so nothing in it may be shared with the rest of the program: an
// inline function compiled here with AVX-512 could be the copy that the linker keeps for everyone. Hence: no header
// of the standard library but <stddef.h> and <stdint.h>, everything in an anonymous namespace, one exported table.
// The ISA file defines FASTCONV_VECTOR_BYTES before it includes this. Vectors of 64 bytes compile without AVX-512's
// instructions too, slowly: so a build with FASTCONV_EMULATE_AVX512 tests those tables on any processor with AVX2.
#pragma once

#include <stddef.h>
#include <stdint.h>
#if defined(__AVX2__)
#include <immintrin.h>  // masked loads and stores, which vector extensions lack; every function in it is inlined
#endif

#ifndef FASTCONV_VECTOR_BYTES
#error "an ISA file defines FASTCONV_VECTOR_BYTES (16, 32 or 64) before it includes simd.h"
#endif

#define FASTCONV_INLINE inline __attribute__((always_inline))

namespace {

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(FASTCONV_VECTOR_BYTES)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(FASTCONV_VECTOR_BYTES)));
};
template <class T>
using Vector = typename VectorOf<T>::type;
template <class T>
constexpr int kLanes = FASTCONV_VECTOR_BYTES / sizeof(T);

// Unaligned loads and stores: a memcpy of a constant size is one instruction and breaks no aliasing rule.
template <class T>
FASTCONV_INLINE Vector<T> load(const T* p) {
  Vector<T> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
FASTCONV_INLINE void store(T* p, Vector<T> v) {
  __builtin_memcpy(p, &v, sizeof v);
}
// The first `count` lanes, 0 < count <= lanes, known at run time; nothing behind them is touched, and 0 is loaded.
#if defined(__AVX512F__)
FASTCONV_INLINE Vector<float> load_some(const float* p, int count) {
  return (Vector<float>)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), p);
}
FASTCONV_INLINE Vector<double> load_some(const double* p, int count) {
  return (Vector<double>)_mm512_maskz_loadu_pd((__mmask8)((1u << count) - 1), p);
}
FASTCONV_INLINE void store_some(float* p, Vector<float> v, int count) {
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), (__m512)v);
}
FASTCONV_INLINE void store_some(double* p, Vector<double> v, int count) {
  _mm512_mask_storeu_pd(p, (__mmask8)((1u << count) - 1), (__m512d)v);
}
#elif defined(__AVX2__) && FASTCONV_VECTOR_BYTES == 32
FASTCONV_INLINE __m256i first_lanes(int count, float) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
FASTCONV_INLINE __m256i first_lanes(int count, double) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3));
}
FASTCONV_INLINE Vector<float> load_some(const float* p, int count) {
  return (Vector<float>)_mm256_maskload_ps(p, first_lanes(count, 0.0f));
}
FASTCONV_INLINE Vector<double> load_some(const double* p, int count) {
  return (Vector<double>)_mm256_maskload_pd(p, first_lanes(count, 0.0));
}
FASTCONV_INLINE void store_some(float* p, Vector<float> v, int count) {
  _mm256_maskstore_ps(p, first_lanes(count, 0.0f), (__m256)v);
}
FASTCONV_INLINE void store_some(double* p, Vector<double> v, int count) {
  _mm256_maskstore_pd(p, first_lanes(count, 0.0), (__m256d)v);
}
#else
template <class T>
FASTCONV_INLINE Vector<T> load_some(const T* p, int count) {
  Vector<T> v = {};
  for (int i = 0; i < count; ++i) v[i] = p[i];
  return v;
}
template <class T>
FASTCONV_INLINE void store_some(T* p, Vector<T> v, int count) {
  for (int i = 0; i < count; ++i) p[i] = v[i];
}
#endif
// Lanes [begin, end) of a vector, as loads take them: nothing outside is touched, and 0 is loaded. Only where the ISA
// loads under a mask (kMaskedLoads); elsewhere nobody may call these.
#if FASTCONV_VECTOR_BYTES == 64
constexpr bool kMaskedLoads = true;
template <class T>
using Mask = uint32_t;
template <class T>
FASTCONV_INLINE Mask<T> lanes_between(int64_t begin, int64_t end) {
  begin = begin < 0 ? 0 : begin > kLanes<T> ? kLanes<T> : begin;
  end = end < begin ? begin : end > kLanes<T> ? kLanes<T> : end;
  return ((uint32_t{1} << end) - 1) & ~((uint32_t{1} << begin) - 1);
}
#if defined(__AVX512F__)
FASTCONV_INLINE Vector<float> load_masked(const float* p, Mask<float> mask) {
  return (Vector<float>)_mm512_maskz_loadu_ps((__mmask16)mask, p);
}
FASTCONV_INLINE Vector<double> load_masked(const double* p, Mask<double> mask) {
  return (Vector<double>)_mm512_maskz_loadu_pd((__mmask8)mask, p);
}
#else
template <class T>
FASTCONV_INLINE Vector<T> load_masked(const T* p, uint32_t mask) {
  Vector<T> v = {};
  for (int i = 0; i < kLanes<T>; ++i)
    if (mask >> i & 1) v[i] = p[i];
  return v;
}
#endif
#elif defined(__AVX2__)
constexpr bool kMaskedLoads = true;
typedef int64_t MaskBits __attribute__((vector_size(32)));
template <class T>
using Mask = MaskBits;
template <class T>
FASTCONV_INLINE Mask<T> lanes_between(int64_t begin, int64_t end) {
  begin = begin < 0 ? 0 : begin > kLanes<T> ? kLanes<T> : begin;
  end = end < begin ? begin : end > kLanes<T> ? kLanes<T> : end;
  return (MaskBits)_mm256_andnot_si256(first_lanes((int)begin, T{}), first_lanes((int)end, T{}));
}
FASTCONV_INLINE Vector<float> load_masked(const float* p, MaskBits mask) {
  return (Vector<float>)_mm256_maskload_ps(p, (__m256i)mask);
}
FASTCONV_INLINE Vector<double> load_masked(const double* p, MaskBits mask) {
  return (Vector<double>)_mm256_maskload_pd(p, (__m256i)mask);
}
#else
constexpr bool kMaskedLoads = false;
template <class T>
using Mask = uint32_t;
template <class T>
FASTCONV_INLINE Mask<T> lanes_between(int64_t, int64_t) {
  return 0;
}
template <class T>
FASTCONV_INLINE Vector<T> load_masked(const T* p, uint32_t) {
  return load(p);
}
#endif
template <class T>
FASTCONV_INLINE Vector<T> broadcast(T x) {
  return x - Vector<T>{};
}
// Keeps a NaN: both comparisons are false for it.
template <class T>
FASTCONV_INLINE Vector<T> clamp(Vector<T> v, T low, T high) {
  const Vector<T> lo = broadcast(low), hi = broadcast(high);
  v = v < lo ? lo : v;
  return v > hi ? hi : v;
}

// 0, 1, ... n-1 as a pack, without <utility>.
template <int... i>
struct Indices {};
template <int n, int... i>
struct MakeIndices : MakeIndices<n - 1, n - 1, i...> {};
template <int... i>
struct MakeIndices<0, i...> {
  using type = Indices<i...>;
};

// The first `count` lanes, known when compiled. A memcpy of part of a vector goes through the stack, and what is loaded
// from there as a whole waits for its parts.
template <int count, class T>
FASTCONV_INLINE Vector<T> load_first(const T* p) {
  if constexpr (count == kLanes<T>) return load(p);
  if constexpr (kMaskedLoads) return load_some(p, count);
  Vector<T> v = {};
  __builtin_memcpy(&v, p, count * sizeof(T));
  return v;
}
template <int first, int count, class T, int... i>
FASTCONV_INLINE void store_piece(T* p, Vector<T> v, Indices<i...>) {
  typedef T Piece __attribute__((vector_size(count * sizeof(T))));
  const Piece piece = __builtin_shufflevector(v, v, (first + i)...);
  __builtin_memcpy(p + first, &piece, sizeof piece);
}
// By powers of two: some processors take many cycles for a store under a mask.
template <int count, int first = 0, class T>
FASTCONV_INLINE void store_first(T* p, Vector<T> v) {
  constexpr int left = count - first, size = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
  if constexpr (count == kLanes<T>) {
    store(p, v);
  } else if constexpr (left > 0) {
    if constexpr (size == 1)
      p[first] = v[first];
    else
      store_piece<first, size>(p, v, typename MakeIndices<size>::type{});
    store_first<count, first + size>(p, v);
  }
}

// One exchange step of the transposition: lanes with bit h of `a` against lanes without it of `b`.
template <int h, class V, int... l>
FASTCONV_INLINE void exchange(V& a, V& b, Indices<l...>) {
  constexpr int n = sizeof...(l);
  const V first = __builtin_shufflevector(a, b, ((l & h) ? n + (l ^ h) : l)...);
  const V second = __builtin_shufflevector(a, b, ((l & h) ? n + l : (l ^ h))...);
  a = first;
  b = second;
}

template <int h, class T>
FASTCONV_INLINE void transpose_step(Vector<T> (&rows)[kLanes<T>]) {
  constexpr int n = kLanes<T>;
  if constexpr (h < n) {
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i)
      if (!(i & h)) exchange<h>(rows[i], rows[i | h], typename MakeIndices<n>::type{});
    transpose_step<2 * h, T>(rows);
  }
}

// rows[i] lane j  <->  rows[j] lane i, in log2(lanes) steps (Eklundh 1972).
template <class T>
FASTCONV_INLINE void transpose(Vector<T> (&rows)[kLanes<T>]) {
  transpose_step<1, T>(rows);
}

// Lane i of v[0] becomes the total of the lanes of v[i]: vectors i and i + h exchange halves and add, h = 1, 2, 4 ..
// The order of additions is fixed.
template <int h, class V, int... l>
FASTCONV_INLINE V fold_pair(V a, V b, Indices<l...>) {
  constexpr int n = sizeof...(l);
  return __builtin_shufflevector(a, b, ((l & h) ? n + (l ^ h) : l)...) +
         __builtin_shufflevector(a, b, ((l & h) ? n + l : (l ^ h))...);
}

template <int h, class T>
FASTCONV_INLINE void fold_lanes(Vector<T> (&v)[kLanes<T>]) {
  constexpr int n = kLanes<T>;
  if constexpr (h < n) {
#pragma GCC unroll 16
    for (int i = 0; i < n; i += 2 * h) v[i] = fold_pair<h>(v[i], v[i + h], typename MakeIndices<n>::type{});
    fold_lanes<2 * h, T>(v);
  }
}

// Every second lane of the 2 * lanes elements of a and b, beginning with the first or the second.
template <int odd, class V, int... l>
FASTCONV_INLINE V every_second(V a, V b, Indices<l...>) {
  return __builtin_shufflevector(a, b, (2 * l + odd)...);
}
template <class T>
FASTCONV_INLINE Vector<T> even_lanes(Vector<T> a, Vector<T> b) {
  return every_second<0>(a, b, typename MakeIndices<kLanes<T>>::type{});
}
template <class T>
FASTCONV_INLINE Vector<T> odd_lanes(Vector<T> a, Vector<T> b) {
  return every_second<1>(a, b, typename MakeIndices<kLanes<T>>::type{});
}

// The sum of the lanes, pairwise, so that its rounding does not depend on the order of instructions.
template <class T>
FASTCONV_INLINE T sum_lanes(Vector<T> v) {
  T parts[kLanes<T>];
  __builtin_memcpy(parts, &v, sizeof v);
#pragma GCC unroll 8
  for (int width = kLanes<T> / 2; width > 0; width /= 2)
#pragma GCC unroll 16
    for (int i = 0; i < width; ++i) parts[i] += parts[i + width];
  return parts[0];
}

}  // namespace
