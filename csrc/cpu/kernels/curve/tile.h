// The curves of curve.h, once for every ISA; an ISA file sets FASTCONV_VECTOR_BYTES and includes this.
//
//   e = exp(-|x|) = 2^n * exp(r),  n = round(-|x| / ln 2),  |r| <= ln 2 / 2:  Taylor's series, its rest below u / 10
//   silu = (x < 0 ? x * e : x) / (1 + e)          no power of e overflows, and none of its digits cancels
//
// n is rounded by adding 1.5 * 2^(digits - 1), which leaves it in the low bits; n * ln 2 is subtracted in two parts, of
// which the first has trailing zeros enough that the product is exact. After: W. Cody, W. Waite, Software Manual for
// the Elementary Functions (1980).
// Register budget: a vector, its exponential and two constants; the rest are operands in memory.
// Strided results (phases of an input gradient) are brought into a vector and back one by one.
#pragma once

#include "../../simd.h"
#include "curve.h"

namespace {

using fastconv::CurveKernel;
using fastconv::CurveTile;

template <class T>
struct Exponential;
template <>
struct Exponential<float> {
  typedef uint32_t Bits __attribute__((vector_size(FASTCONV_VECTOR_BYTES)));
  static constexpr int kTerms = 7, kDigits = 23, kBias = 127;
  static constexpr float kRound = 0x1.8p23f, kLeast = -87;
  static constexpr float kHigh = 0x1.62e4p-1f, kLow = 0x1.7f7d1cp-20f;  // ln 2 = kHigh + kLow
};
template <>
struct Exponential<double> {
  typedef uint64_t Bits __attribute__((vector_size(FASTCONV_VECTOR_BYTES)));
  static constexpr int kTerms = 13, kDigits = 52, kBias = 1023;
  static constexpr double kRound = 0x1.8p52, kLeast = -708;
  static constexpr double kHigh = 0x1.62e42feep-1, kLow = 0x1.a39ef35793c76p-33;
};

constexpr double inverse_factorial(int n) { return n == 0 ? 1 : inverse_factorial(n - 1) / n; }

// exp(x) for x <= 0; 0 below kLeast.
template <class T>
FASTCONV_INLINE Vector<T> exponential(Vector<T> x) {
  using E = Exponential<T>;
  const Vector<T> round = broadcast(E::kRound), shifted = x * T(1.44269504088896340736) + round, n = shifted - round;
  const Vector<T> r = (x - n * E::kHigh) - n * E::kLow;
  Vector<T> sum = broadcast(T(inverse_factorial(E::kTerms)));
#pragma GCC unroll 16
  for (int i = E::kTerms - 1; i >= 0; --i) sum = sum * r + T(inverse_factorial(i));
  const typename E::Bits power = ((typename E::Bits)shifted + E::kBias) << E::kDigits;  // n is in the lowest bits
  const Vector<T> value = sum * (Vector<T>)power;
  return x < E::kLeast ? Vector<T>{} : value;
}

struct Silu {
  template <class T>
  static FASTCONV_INLINE Vector<T> at(Vector<T> x) {
    const Vector<T> e = exponential<T>(x < T{0} ? x : -x);
    return (x < T{0} ? x * e : x) / (e + T{1});
  }
};

struct Hardswish {
  template <class T>
  static FASTCONV_INLINE Vector<T> at(Vector<T> x) {
    return x * (clamp<T>(x + T{3}, T{0}, T{6}) * T(1.0 / 6));
  }
};

template <class Curve, class T>
void curve_tile(const CurveTile<T>& t) {
  constexpr int lanes = kLanes<T>;
  for (int64_t r = 0; r < t.rows; ++r) {
    T* const y = t.y + r * t.row;
    int64_t q = 0;
    if (t.col == 1) {
      for (; q + lanes <= t.cols; q += lanes) store(y + q, Curve::template at<T>(load(y + q)));
      const int left = (int)(t.cols - q);
      if (left > 0) store_some(y + q, Curve::template at<T>(load_some(y + q, left)), left);
      continue;
    }
    for (; q < t.cols; q += lanes) {
      const int count = t.cols - q < lanes ? (int)(t.cols - q) : lanes;
      T some[lanes] = {};
      for (int i = 0; i < count; ++i) some[i] = y[(q + i) * t.col];
      store(some, Curve::template at<T>(load(some)));
      for (int i = 0; i < count; ++i) y[(q + i) * t.col] = some[i];
    }
  }
}

template <class T>
constexpr CurveKernel<T> make_curve_kernel() {
  return {curve_tile<Silu, T>, curve_tile<Hardswish, T>};
}

}  // namespace
