// NumPy arrays <-> TensorView: looked at before the checks, made contiguous after them.
//
// An Argument first only reads shape and dtype, so that a refused call has copied nothing; view() then gives the
// memory itself where it is C-contiguous, aligned and in native byte order, and otherwise a copy that is.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "../core/error.h"
#include "../core/tensor.h"
#include "../cpu/parallel.h"

namespace fastconv::bindings {

namespace py = pybind11;

inline Shape shape_of(const py::array& array) { return Shape(array.shape(), array.shape() + array.ndim()); }

// The array itself where it is C-contiguous, aligned and in native byte order, and otherwise a copy that is.
inline py::array plain(py::array array, const char* type) {
  constexpr char kNativeOrder = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? '<' : '>';
  constexpr int kPlain = int{py::array::c_style} | int{py::detail::npy_api::NPY_ARRAY_ALIGNED_};
  const char order = array.dtype().byteorder();
  if ((array.flags() & kPlain) == kPlain && (order == '=' || order == '|' || order == kNativeOrder)) return array;
  return py::module_::import("numpy").attr("require")(array, type, py::make_tuple("C", "A"));
}

class Argument {
 public:
  Argument(py::handle object, const char* name) : name_(name) {
    if (!py::isinstance<py::array>(object))
      throw InvalidType(cat(name, " is ", Py_TYPE(object.ptr())->tp_name, ": expected a NumPy array"));
    array_ = py::reinterpret_borrow<py::array>(object);
    const py::dtype type = array_.dtype();
    if (type.kind() != 'f' || (type.itemsize() != 4 && type.itemsize() != 8))
      throw InvalidType(cat(name, " has dtype ", std::string(py::str(type)), ": expected float32 or float64"));
    dtype_ = type.itemsize() == 4 ? DType::float32 : DType::float64;
  }

  DType dtype() const { return dtype_; }
  const char* name() const { return name_; }
  Shape shape() const { return shape_of(array_); }

  void expect_dtype(DType expected, const char* like) const {
    if (dtype_ != expected)
      throw InvalidType(cat(name_, " has dtype ", name_of(dtype_), ": expected ", name_of(expected), " like ", like));
  }

  TensorView view() {
    array_ = plain(std::move(array_), dtype_ == DType::float32 ? "=f4" : "=f8");
    return {const_cast<void*>(array_.data()), dtype_, shape()};
  }

 private:
  py::array array_;
  const char* name_;
  DType dtype_;
};

// Indices: int64, as the poolings return them.
class IndexArgument {
 public:
  IndexArgument(py::handle object, const char* name) {
    if (!py::isinstance<py::array>(object))
      throw InvalidType(cat(name, " is ", Py_TYPE(object.ptr())->tp_name, ": expected a NumPy array"));
    array_ = py::reinterpret_borrow<py::array>(object);
    const py::dtype type = array_.dtype();
    if (type.kind() != 'i' || type.itemsize() != 8)
      throw InvalidType(cat(name, " has dtype ", std::string(py::str(type)), ": expected int64"));
  }
  Shape shape() const { return shape_of(array_); }
  const int64_t* view() {
    array_ = plain(std::move(array_), "=i8");
    return static_cast<const int64_t*>(array_.data());
  }

 private:
  py::array array_;
};

inline py::dtype numpy_type(DType type) {
  return type == DType::float32 ? py::dtype::of<float>() : py::dtype::of<double>();
}

// The array a call returns: a fresh one, or the caller's `out` once it is known to be fit and to overlap no input. A
// `residual` may be that array itself: each element of it is read before the result takes its place.
class Result {
 public:
  Result(py::handle out, const Shape& shape, DType dtype, std::initializer_list<const TensorView*> inputs,
         const TensorView& residual = {}) {
    if (out.is_none()) {
      array_ = py::array(numpy_type(dtype), shape);
      return;
    }
    if (!py::isinstance<py::array>(out))
      throw InvalidType(cat("out is ", Py_TYPE(out.ptr())->tp_name, ": expected a NumPy array"));
    array_ = py::reinterpret_borrow<py::array>(out);
    if (!array_.dtype().is(numpy_type(dtype)))
      throw InvalidType(cat("out has dtype ", std::string(py::str(array_.dtype())), ": expected ", name_of(dtype)));
    if (shape_of(array_) != shape)
      throw InvalidArgument(cat("out has shape ", shape_text(shape_of(array_)), ": expected ", shape_text(shape)));
    constexpr int kPlain = int{py::array::c_style} | int{py::detail::npy_api::NPY_ARRAY_ALIGNED_};
    if ((array_.flags() & kPlain) != kPlain)
      throw InvalidArgument("out is not C-contiguous and aligned: expected both");
    if (!array_.writeable()) throw InvalidArgument("out is read-only: expected a writeable array");
    for (const TensorView* input : inputs)
      if (input && overlaps(*input))
        throw InvalidArgument("out overlaps an input in memory: expected an array of its own");
    if (residual.data != array_.data() && overlaps(residual))
      throw InvalidArgument("out overlaps residual in memory: expected residual itself or an array of its own");
  }

  void* data() const { return const_cast<void*>(array_.data()); }
  py::array take() { return std::move(array_); }

 private:
  bool overlaps(const TensorView& input) const {
    if (!input.data) return false;
    const auto *const begin = static_cast<const char*>(array_.data()), *const other = static_cast<char*>(input.data);
    return begin < other + static_cast<size_t>(input.elements()) * size_of(input.dtype) &&
           other < begin + array_.nbytes();
  }

  py::array array_;
};

// For Interrupt: true when a signal handler raised. The exception is then set on the calling thread.
inline bool poll_signals() {
  const py::gil_scoped_acquire gil;
  return PyErr_CheckSignals() != 0;
}

// Runs `work`, which returns false when it was interrupted, without the GIL.
template <class F>
void without_gil(const F& work) {
  bool finished;
  {
    const py::gil_scoped_release release;
    finished = work();
  }
  if (!finished) throw py::error_already_set();
}

}  // namespace fastconv::bindings
