// The conversions of half.h, once for every ISA; an ISA file sets FASTCONV_VECTOR_BYTES and includes this.
//
//   float16 -> float32:  exponent and fraction moved into place, times 2^112 (the difference of the biases), which also
//                        normalises subnormals; infinity and NaN get the largest exponent
//   float32 -> float16:  half a unit of the last place is added to the bits, and one more where that makes a tie even;
//                        below 2^-14 the number is added to 0.5, whose last place is that of the subnormals
//   bfloat16             the same without a bias
// Where the ISA converts float16 itself (F16C, AVX-512), it does. Comparisons are of signed words: the sign is off.
#pragma once

#include "../../simd.h"
#include "half.h"

namespace {

using fastconv::HalfKernel;

constexpr int kHalfLanes = kLanes<float>;
typedef uint32_t Words __attribute__((vector_size(FASTCONV_VECTOR_BYTES)));
typedef int32_t Signed __attribute__((vector_size(FASTCONV_VECTOR_BYTES)));
typedef uint16_t Halves __attribute__((vector_size(FASTCONV_VECTOR_BYTES / 2)));

struct Bfloat16 {
  static FASTCONV_INLINE Vector<float> widened(Halves half) {
    return (Vector<float>)(__builtin_convertvector(half, Words) << 16);
  }
  static FASTCONV_INLINE Halves narrowed(Vector<float> value) {
    const Words bits = (Words)value, rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    const Words h = (Signed)(bits & 0x7fffffffu) > 0x7f800000 ? bits >> 16 | 0x40 : rounded;
    return __builtin_convertvector(h, Halves);
  }
};

#if defined(__AVX512F__)
struct Float16 {
  static FASTCONV_INLINE Vector<float> widened(Halves half) {
    return (Vector<float>)_mm512_maskz_cvtph_ps((__mmask16)-1, (__m256i)half);
  }
  static FASTCONV_INLINE Halves narrowed(Vector<float> value) {
    return (Halves)_mm512_maskz_cvtps_ph((__mmask16)-1, (__m512)value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
};
#elif defined(__F16C__) && FASTCONV_VECTOR_BYTES == 32
struct Float16 {
  static FASTCONV_INLINE Vector<float> widened(Halves half) { return (Vector<float>)_mm256_cvtph_ps((__m128i)half); }
  static FASTCONV_INLINE Halves narrowed(Vector<float> value) {
    return (Halves)_mm256_cvtps_ph((__m256)value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
};
#else
struct Float16 {
  static FASTCONV_INLINE Vector<float> widened(Halves half) {
    const Words h = __builtin_convertvector(half, Words), magnitude = (h & 0x7fff) << 13;
    const Words scaled = (Words)((Vector<float>)magnitude * 0x1p112f);
    const Words value = (Signed)magnitude >= 0x0f800000 ? magnitude | 0x7f800000u : scaled;
    return (Vector<float>)(value | (h & 0x8000) << 16);
  }
  static FASTCONV_INLINE Halves narrowed(Vector<float> value) {
    const Words bits = (Words)value, magnitude = bits & 0x7fffffffu;
    const Words normal = (magnitude + 0xfff + (magnitude >> 13 & 1) - (112u << 23)) >> 13;
    const Words small = (Words)((Vector<float>)magnitude + 0.5f) - 0x3f000000u;
    Words h = (Signed)magnitude < 0x38800000 ? small : normal;
    h = (Signed)magnitude >= 0x477ff000 ? Words{} + 0x7c00 : h;  // from halfway between 65504 and 65536 on
    h = (Signed)magnitude > 0x7f800000 ? Words{} + 0x7e00 : h;
    return __builtin_convertvector(h | (bits >> 16 & 0x8000), Halves);
  }
};
#endif

template <class Half>
FASTCONV_INLINE void widen_vector(const uint16_t* from, float* to) {
  Halves half;
  __builtin_memcpy(&half, from, sizeof half);
  store(to, Half::widened(half));
}

template <class Half>
FASTCONV_INLINE void narrow_vector(const float* from, uint16_t* to) {
  const Halves half = Half::narrowed(load(from));
  __builtin_memcpy(to, &half, sizeof half);
}

// The elements behind the last whole vector go through one of their own.
template <class Half>
void widen(const uint16_t* from, float* to, int64_t count) {
  int64_t i = 0;
  for (; i + kHalfLanes <= count; i += kHalfLanes) widen_vector<Half>(from + i, to + i);
  const int left = (int)(count - i);
  if (left == 0) return;
  uint16_t some[kHalfLanes] = {};
  float wide[kHalfLanes];
  for (int j = 0; j < kHalfLanes; ++j)
    if (j < left) some[j] = from[i + j];
  widen_vector<Half>(some, wide);
  for (int j = 0; j < kHalfLanes; ++j)
    if (j < left) to[i + j] = wide[j];
}

template <class Half>
void narrow(const float* from, uint16_t* to, int64_t count) {
  int64_t i = 0;
  for (; i + kHalfLanes <= count; i += kHalfLanes) narrow_vector<Half>(from + i, to + i);
  const int left = (int)(count - i);
  if (left == 0) return;
  float some[kHalfLanes] = {};
  uint16_t narrowed[kHalfLanes];
  for (int j = 0; j < kHalfLanes; ++j)
    if (j < left) some[j] = from[i + j];
  narrow_vector<Half>(some, narrowed);
  for (int j = 0; j < kHalfLanes; ++j)
    if (j < left) to[i + j] = narrowed[j];
}

template <class Half>
constexpr HalfKernel make_half_kernel() {
  return {widen<Half>, narrow<Half>};
}

}  // namespace
