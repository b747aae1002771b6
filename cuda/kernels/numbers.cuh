// The 16-bit element types as bits, and their conversions; arithmetic is always in float.
//
//   half16     1 sign, 5 exponent, 10 fraction bits (IEEE 754 binary16)
//   bfloat16   1, 8, 7: the upper half of a float
// Device bodies are one instruction of ptx.cuh; host bodies round to nearest, ties to even, as those do.
#pragma once

#include <cstdint>
#include <cstring>

#include <cuda_runtime.h>

namespace fastconv::cuda {

struct half16 {
  uint16_t bits;
};
struct bfloat16 {
  uint16_t bits;
};

// What elements are summed in.
template <class T>
struct WideOf {
  using Type = float;
};
template <>
struct WideOf<double> {
  using Type = double;
};
template <class T>
using Wide = typename WideOf<T>::Type;

inline uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

namespace host {

inline float widen(half16 h) {
  const uint32_t sign = uint32_t{h.bits & 0x8000u} << 16, exponent = h.bits >> 10 & 31u, fraction = h.bits & 1023u;
  if (exponent == 31) return float_of(sign | 0x7f800000u | fraction << 13);
  if (exponent) return float_of(sign | (exponent + 112) << 23 | fraction << 13);
  const float tiny = static_cast<float>(fraction) * 0x1p-24f;  // subnormal or zero
  return sign ? -tiny : tiny;
}

inline half16 narrow_half(float value) {
  const uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7fffu)};
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // rounds to 65536 or beyond
  if (magnitude < 0x38800000u) {                                                 // below 2^-14: subnormal
    const float scaled = float_of(magnitude) + 0.5f;  // 0.5 has the unit 2^-24 of a subnormal half at its last bit
    return {static_cast<uint16_t>(sign | (bits_of(scaled) - bits_of(0.5f)))};
  }
  const uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
  return {static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
}

inline float widen(bfloat16 b) { return float_of(uint32_t{b.bits} << 16); }

inline bfloat16 narrow_bfloat(float value) {
  const uint32_t bits = bits_of(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fffu};
  return {static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}

}  // namespace host
}  // namespace fastconv::cuda
