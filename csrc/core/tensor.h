// A non-owning, C-contiguous array: what the bindings hand to the engine.
#pragma once

#include <cstdint>
#include <vector>

#include "dtype.h"

namespace fastconv {

using Shape = std::vector<int64_t>;

struct TensorView {
  void* data = nullptr;
  DType dtype = DType::float32;
  Shape shape;

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
  int64_t elements() const {
    int64_t count = 1;
    for (int64_t extent : shape) count *= extent;
    return count;
  }
};

}  // namespace fastconv
