// Element types. To add one: a row here, kernel rows, a tolerance row in the tests, the oracle's cast.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastconv {

enum class DType : uint8_t { float32, float64, float16, bfloat16 };

// Types of 16 bits are how numbers are stored: a CPU computes in float32 and rounds a result once (cpu/half.h).
constexpr bool is_half(DType type) { return type == DType::float16 || type == DType::bfloat16; }
constexpr size_t size_of(DType type) { return type == DType::float32 ? 4 : type == DType::float64 ? 8 : 2; }
constexpr const char* name_of(DType type) {
  constexpr const char* names[] = {"float32", "float64", "float16", "bfloat16"};
  return names[static_cast<int>(type)];
}

template <class T>
constexpr DType dtype_of = sizeof(T) == 4 ? DType::float32 : DType::float64;

// Calls f with a value of the C++ type that a DType is computed in:
// visit_dtype(t, [](auto zero) { using T = decltype(zero); ... }). None of the two types of 16 bits may come here.
template <class F>
decltype(auto) visit_dtype(DType type, F&& f) {
  return type == DType::float32 ? f(float{}) : f(double{});
}

}  // namespace fastconv
