// What the pooling tiles share: the two reductions, lanes with an index beside them, stores that know their end.
//
// NaN. `b > a ? b : a` is one instruction and gives a where either is NaN: a NaN in b is lost. Max puts it back;
// QuickMax does not, and is for who has seen that there is none. Of equals, +0 and -0 as well, both keep the first.
#pragma once

#include "../../simd.h"
#include "pool.h"

namespace {

using fastconv::Place;
using fastconv::PoolKernel;
using fastconv::PoolPixels;
using fastconv::PoolPlanes;
using fastconv::Window;

template <class T>
using Ints = decltype(Vector<T>{} > Vector<T>{});

struct Max {
  template <class T>
  static constexpr T neutral = -static_cast<T>(__builtin_inf());
  template <class T>
  static FASTCONV_INLINE Vector<T> join(Vector<T> a, Vector<T> b) {
    const Vector<T> larger = b > a ? b : a;
    return b != b ? b : larger;
  }
  template <class T>
  static FASTCONV_INLINE T join_one(T a, T b) {
    return b > a || b != b ? b : a;
  }
};

struct QuickMax {
  template <class T>
  static constexpr T neutral = Max::neutral<T>;
  template <class T>
  static FASTCONV_INLINE Vector<T> join(Vector<T> a, Vector<T> b) {
    return b > a ? b : a;
  }
  template <class T>
  static FASTCONV_INLINE T join_one(T a, T b) {
    return Max::join_one(a, b);
  }
};

// Where either is NaN.
template <class T>
FASTCONV_INLINE Ints<T> unordered(Vector<T> a, Vector<T> b) {
#if defined(__AVX2__) && FASTCONV_VECTOR_BYTES == 32
  if constexpr (sizeof(T) == 4)
    return (Ints<T>)_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_UNORD_Q);
  else
    return (Ints<T>)_mm256_cmp_pd((__m256d)a, (__m256d)b, _CMP_UNORD_Q);
#else
  return (a != a) | (b != b);
#endif
}

struct Sum {
  template <class T>
  static constexpr T neutral = T{0};
  template <class T>
  static FASTCONV_INLINE Vector<T> join(Vector<T> a, Vector<T> b) {
    return a + b;
  }
  template <class T>
  static FASTCONV_INLINE T join_one(T a, T b) {
    return a + b;
  }
};

template <class T, int... l>
FASTCONV_INLINE Ints<T> iota(Indices<l...>) {
  return Ints<T>{l...};
}
template <class T>
FASTCONV_INLINE Ints<T> lane_numbers() {
  return iota<T>(typename MakeIndices<kLanes<T>>::type{});
}

// The first `count` lanes of v, and `rest` in the others.
template <class T, class V>
FASTCONV_INLINE V keep_first(V v, int64_t count, V rest) {
  return lane_numbers<T>() < (Ints<T>{} + static_cast<Place<T>>(count)) ? v : rest;
}

// Lanes first, first + step .. of two vectors, as far as there are any; those of `low` for the rest.
template <int first, int step, class V, int... l>
FASTCONV_INLINE V pick(V low, V high, Indices<l...>) {
  constexpr int lanes = sizeof...(l);
  return __builtin_shufflevector(low, high, (first + step * l < 2 * lanes ? first + step * l : l)...);
}
// Lanes first, first + 2 .. of two vectors, in an order that 16 bytes of both make by themselves: one instruction where
// pick() is two. in_order() puts it right, once for all that was joined meanwhile.
template <int first, class V, int... l>
FASTCONV_INLINE V pick_second(V low, V high, Indices<l...>) {
  constexpr int lanes = sizeof...(l), part = 16 * lanes / FASTCONV_VECTOR_BYTES, half = part / 2;
  return __builtin_shufflevector(low, high,
                                 (l / part * part + 2 * (l % half) + first + (l % part < half ? 0 : lanes))...);
}
template <class V, int... l>
FASTCONV_INLINE V in_order(V v, Indices<l...>) {
  constexpr int lanes = sizeof...(l), part = 16 * lanes / FASTCONV_VECTOR_BYTES, half = part / 2;
  return __builtin_shufflevector(v, v, (l % (lanes / 2) / half * part + l % half + (l < lanes / 2 ? 0 : half))...);
}

// Where `low` has no lane first + step * l for l, that of `more`: lane numbers count on from `low` through `high`.
template <int step, class V, int... l>
FASTCONV_INLINE V complete(V low, V more, Indices<l...>) {
  constexpr int lanes = sizeof...(l);
  return __builtin_shufflevector(low, more, (step * l < 2 * lanes ? l : step * l - lanes)...);
}

// Every stride-th lane of the vectors v(0), v(1), .. v(stride - 1), one behind the other.
template <int stride, class T, class F>
FASTCONV_INLINE auto every(const F& v) {
  using Lanes = typename MakeIndices<kLanes<T>>::type;
  if constexpr (stride == 1)
    return v(0);
  else if constexpr (stride == 2)
    return pick<0, 2>(v(0), v(1), Lanes{});
  else if constexpr (stride == 3)
    return complete<3>(pick<0, 3>(v(0), v(1), Lanes{}), v(2), Lanes{});
  else
    return pick<0, 2>(pick<0, 2>(v(0), v(1), Lanes{}), pick<0, 2>(v(2), v(3), Lanes{}), Lanes{});
}

template <int h, class V, int... l>
FASTCONV_INLINE V swapped(V v, Indices<l...>) {
  return __builtin_shufflevector(v, v, (l ^ h)...);
}
template <class Op, class T, int h = kLanes<T> / 2>
FASTCONV_INLINE T join_lanes(Vector<T> v) {
  if constexpr (h == 0)
    return v[0];
  else
    return join_lanes<Op, T, h / 2>(Op::template join<T>(v, swapped<h>(v, typename MakeIndices<kLanes<T>>::type{})));
}

template <class T>
FASTCONV_INLINE Ints<T> load_places(const Place<T>* p) {
  Ints<T> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
FASTCONV_INLINE void store_places(Place<T>* p, Ints<T> v) {
  __builtin_memcpy(p, &v, sizeof v);
}

// Asks for what will be read a batch of rows from now (pooling/planes.cpp: 8 KB): a batch is finished from the L1
// cache, and the memory would stand still meanwhile. The address may lie behind the array.
constexpr uintptr_t kAhead = 8 << 10;
constexpr int kLine = 64;  // bytes, as x86-64 and nearly all of aarch64 have them
template <class T>
FASTCONV_INLINE void prefetch(const T* x) {
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(x) + kAhead));
}

typedef int64_t WideInts __attribute__((vector_size(FASTCONV_VECTOR_BYTES)));

// Lanes first .. first + n - 1 of n * 2 lanes of 32 bits, as 64 bits.
template <int first, class V, int... l>
FASTCONV_INLINE WideInts widened(V v, Indices<l...>) {
  return __builtin_convertvector(__builtin_shufflevector(v, v, (first + l)...), WideInts);
}

template <class T>
FASTCONV_INLINE void store_index(int64_t* p, Ints<T> v) {
  constexpr int lanes = kLanes<T>;
  if constexpr (sizeof(T) == 8) {
    __builtin_memcpy(p, &v, sizeof v);
  } else {
    using Half = typename MakeIndices<lanes / 2>::type;
    const WideInts low = widened<0>(v, Half{}), high = widened<lanes / 2>(v, Half{});
    __builtin_memcpy(p, &low, sizeof low);
    __builtin_memcpy(p + lanes / 2, &high, sizeof high);
  }
}

}  // namespace
