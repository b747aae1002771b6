// NumPy arrays <-> TensorView: looked at before the checks, made contiguous after them.
//
// An Argument first only reads shape and dtype, so that a refused call has copied nothing; view() then gives the
// memory itself where it is C-contiguous, aligned and in native byte order, and otherwise a copy that is.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <optional>
#include <string>

#include "../core/error.h"
#include "../core/tensor.h"
#include "../cpu/parallel.h"

namespace fastconv::bindings {

namespace py = pybind11;

constexpr const char* kDTypes = "float32, float64, float16 or bfloat16";

// bfloat16 is the type that ml_dtypes adds to NumPy.
inline std::optional<DType> dtype_from(const py::dtype& type) {
  const auto size = type.itemsize();
  if (type.kind() == 'f' && size == 4) return DType::float32;
  if (type.kind() == 'f' && size == 8) return DType::float64;
  if (type.kind() == 'f' && size == 2) return DType::float16;
  if (type.kind() == 'V' && size == 2 && std::string(py::str(type)) == "bfloat16") return DType::bfloat16;
  return std::nullopt;
}

inline py::dtype numpy_type(DType type) {
  switch (type) {
    case DType::float32:
      return py::dtype::of<float>();
    case DType::float64:
      return py::dtype::of<double>();
    case DType::float16:
      return py::dtype("e");
    default:
      return py::dtype::from_args(py::module_::import("ml_dtypes").attr("bfloat16"));
  }
}

inline Shape shape_of(const py::array& array) { return Shape(array.shape(), array.shape() + array.ndim()); }

// The array itself where it is C-contiguous, aligned and in native byte order, and otherwise a copy that is; type()
// says of what, and is not called for nothing.
template <class Type>
py::array plain(py::array array, const Type& type) {
  constexpr char kNativeOrder = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? '<' : '>';
  constexpr int kPlain = int{py::array::c_style} | int{py::detail::npy_api::NPY_ARRAY_ALIGNED_};
  const char order = array.dtype().byteorder();
  if ((array.flags() & kPlain) == kPlain && (order == '=' || order == '|' || order == kNativeOrder)) return array;
  return py::module_::import("numpy").attr("require")(array, type(), py::make_tuple("C", "A"));
}

inline size_t bytes_of(const Shape& shape, DType dtype) {
  size_t bytes = size_of(dtype);
  for (const int64_t extent : shape) bytes *= static_cast<size_t>(extent);
  return bytes;
}

inline bool overlap(const void* a, size_t a_bytes, const void* b, size_t b_bytes) {
  const auto *const first = static_cast<const char*>(a), *const second = static_cast<const char*>(b);
  return first < second + b_bytes && second < first + a_bytes;
}

class Argument {
 public:
  Argument(py::handle object, const char* name) : name_(name) {
    if (!py::isinstance<py::array>(object))
      throw InvalidType(cat(name, " is ", Py_TYPE(object.ptr())->tp_name, ": expected a NumPy array"));
    array_ = py::reinterpret_borrow<py::array>(object);
    const std::optional<DType> type = dtype_from(array_.dtype());
    if (!type)
      throw InvalidType(cat(name, " has dtype ", std::string(py::str(array_.dtype())), ": expected ", kDTypes));
    dtype_ = *type;
  }

  DType dtype() const { return dtype_; }
  const char* name() const { return name_; }
  Shape shape() const { return shape_of(array_); }

  void expect_dtype(DType expected, const char* like) const {
    if (dtype_ != expected)
      throw InvalidType(cat(name_, " has dtype ", name_of(dtype_), ": expected ", name_of(expected), " like ", like));
  }

  TensorView view() {
    array_ = plain(std::move(array_), [this] { return numpy_type(dtype_); });
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
    array_ = plain(std::move(array_), [] { return py::dtype::of<int64_t>(); });
    return static_cast<const int64_t*>(array_.data());
  }

 private:
  py::array array_;
};

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
    return input.data && overlap(array_.data(), static_cast<size_t>(array_.nbytes()), input.data,
                                 static_cast<size_t>(input.elements()) * size_of(input.dtype));
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
