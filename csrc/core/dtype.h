// Element types. To add one: a row here, kernel rows, a tolerance row in the tests, the oracle's cast.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastconv {

enum class DType : uint8_t { float32, float64 };

constexpr size_t size_of(DType type) { return type == DType::float32 ? 4 : 8; }
constexpr const char* name_of(DType type) { return type == DType::float32 ? "float32" : "float64"; }

template <class T>
constexpr DType dtype_of = sizeof(T) == 4 ? DType::float32 : DType::float64;

// Calls f with a value of the C++ type behind a DType: visit_dtype(t, [](auto zero) { using T = decltype(zero); ... })
template <class F>
decltype(auto) visit_dtype(DType type, F&& f) {
  return type == DType::float32 ? f(float{}) : f(double{});
}

}  // namespace fastconv
