// Element types of arrays on a GPU: those of the core; those of 16 bits have kernels of their own here.
#pragma once

#include "../csrc/core/dtype.h"
#include "kernels/numbers.cuh"

namespace fastconv::cuda {

enum class Element : uint8_t { float32, float64, float16, bfloat16 };

constexpr Element element_of(DType type) { return static_cast<Element>(type); }  // the same names in the same order
constexpr size_t size_of(Element e) { return e == Element::float64 ? 8 : e == Element::float32 ? 4 : 2; }
constexpr const char* name_of(Element e) {
  constexpr const char* names[] = {"float32", "float64", "float16", "bfloat16"};
  return names[static_cast<int>(e)];
}

// Calls f with a value of the type behind an Element.
template <class F>
decltype(auto) visit_element(Element e, F&& f) {
  switch (e) {
    case Element::float32:
      return f(float{});
    case Element::float64:
      return f(double{});
    case Element::float16:
      return f(half16{});
    default:
      return f(bfloat16{});
  }
}

}  // namespace fastconv::cuda
