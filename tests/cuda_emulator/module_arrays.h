// Arrays of the emulated module.
#pragma once

#include <pybind11/numpy.h>

#include "../../csrc/core/tensor.h"
#include "../../cuda/element.h"

inline fastconv::Shape shape_of(const pybind11::array& array) {
  return fastconv::Shape(array.shape(), array.shape() + array.ndim());
}

// bfloat16, which NumPy lacks, comes as uint16.
inline fastconv::cuda::Element element_of(const pybind11::array& array) {
  using fastconv::cuda::Element;
  if (array.itemsize() == 2) return array.dtype().kind() == 'u' ? Element::bfloat16 : Element::float16;
  return array.itemsize() == 4 ? Element::float32 : Element::float64;
}

// Aligned as device memory is, and exactly as long as it should be: AddressSanitizer sees its end. All ones, which is
// NaN in every float format.
// With `views` it begins an element later, as a view of a larger array may.
inline bool& views() {
  static bool on = false;
  return on;
}
inline pybind11::array fresh(const pybind11::dtype& dtype, const fastconv::Shape& shape) {
  constexpr std::align_val_t kDeviceAlignment{256};
  const size_t start = views() ? static_cast<size_t>(dtype.itemsize()) : 0;
  size_t bytes = static_cast<size_t>(dtype.itemsize());
  for (int64_t extent : shape) bytes *= static_cast<size_t>(extent);
  void* const data = ::operator new(start + bytes, kDeviceAlignment);
  std::memset(data, 0xff, start + bytes);
  const pybind11::capsule owner(data, [](void* p) { ::operator delete(p, kDeviceAlignment); });
  return pybind11::array(dtype, shape, static_cast<std::byte*>(data) + start, owner);
}

// The array itself where it is aligned as device memory, else a copy that is.
inline pybind11::array on_device(const pybind11::array& array) {
  if (!views() && reinterpret_cast<uintptr_t>(array.data()) % 256 == 0) return array;
  pybind11::array copy = fresh(array.dtype(), shape_of(array));
  std::memcpy(copy.mutable_data(), array.data(), static_cast<size_t>(array.nbytes()));
  return copy;
}

void bind_convolutions(pybind11::module_& m);
void bind_pooling(pybind11::module_& m);
