// Arrays on a GPU, as python/fastconv/cuda/_call.py describes them, and the call that they belong to.
//
// A view is a tuple (array, pointer, shape, dtype, plain, read_only): `plain` says that elements are C-contiguous and
// each is aligned to its size, as the kernels ask. A call has `stream` and `device`, allocates by `empty(shape, dtype)
// -> view` in the library that the caller's arrays are of, and makes an array plain by `plain(view) -> view`. An
// Argument first only reads; what is not plain is copied after all checks.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "../../csrc/core/tensor.h"
#include "../element.h"
#include "../launch.h"

namespace fastconv::cuda::bindings {

namespace py = pybind11;

// The rest of this scope runs on this device; the one before is current again behind it.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    check(cudaGetDevice(&before_), "asking for the current device");
    if (device != before_) check(cudaSetDevice(device), "choosing the device");
    changed_ = device != before_;
  }
  OnDevice(const OnDevice&) = delete;
  ~OnDevice() {
    if (changed_) cudaSetDevice(before_);
  }

 private:
  int before_ = 0;
  bool changed_ = false;
};

class Call {
 public:
  explicit Call(const py::object& call) : call_(call), on_(call.attr("device").cast<int>()) {
    stream.handle = reinterpret_cast<cudaStream_t>(call.attr("stream").cast<uintptr_t>());
  }
  py::tuple empty(const Shape& shape, const char* dtype) const {
    return call_.attr("empty")(py::tuple(py::cast(shape)), dtype);
  }
  py::tuple plain(const py::tuple& view) const { return call_.attr("plain")(view); }
  // Memory for one call, of the caller's library: freed in the order of the stream.
  py::tuple bytes(size_t count) const { return empty({static_cast<int64_t>(count)}, "uint8"); }

  Stream stream;

 private:
  py::object call_;
  OnDevice on_;
};

inline void* pointer_of(const py::tuple& view) { return reinterpret_cast<void*>(view[1].cast<uintptr_t>()); }

inline bool is_aligned(const void* at, size_t bytes) { return reinterpret_cast<uintptr_t>(at) % bytes == 0; }

inline Element element_from(const std::string& dtype, const char* name) {
  for (Element e : {Element::float32, Element::float64, Element::float16, Element::bfloat16})
    if (dtype == cuda::name_of(e)) return e;
  throw InvalidType(cat(name, " has dtype ", dtype, ": expected float32, float64, float16 or bfloat16"));
}
// What a problem's checks ask of sizes; 16-bit elements pass as float32 there.
inline DType checked_as(Element element) { return element == Element::float64 ? DType::float64 : DType::float32; }

class Argument {
 public:
  Argument(const py::object& view, const char* name) : name_(name), view_(py::reinterpret_borrow<py::tuple>(view)) {
    shape_ = view_[2].cast<Shape>();
    element_ = element_from(view_[3].cast<std::string>(), name);
  }

  Element element() const { return element_; }
  const Shape& shape() const { return shape_; }
  DType dtype() const { return checked_as(element_); }
  size_t bytes() const {
    size_t count = cuda::size_of(element_);
    for (int64_t extent : shape_) count *= static_cast<size_t>(extent);
    return count;
  }
  void expect(Element expected, const char* like) const {
    if (element_ != expected)
      throw InvalidType(cat(name_, " has dtype ", name_of(element_), ": expected ", name_of(expected), " like ", like));
  }
  // Plain, and aligned to so many bytes as well.
  const void* data(const Call& call, size_t alignment = 1) {
    if (!view_[4].cast<bool>() || !is_aligned(pointer_of(view_), alignment)) view_ = call.plain(view_);
    return pointer_of(view_);
  }

 private:
  const char* name_;
  py::tuple view_;
  Shape shape_;
  Element element_;
};

// Indices: int64, as the poolings return them.
class IndexArgument {
 public:
  IndexArgument(const py::object& view, const char* name) : view_(py::reinterpret_borrow<py::tuple>(view)) {
    shape_ = view_[2].cast<Shape>();
    const auto dtype = view_[3].cast<std::string>();
    if (dtype != "int64") throw InvalidType(cat(name, " has dtype ", dtype, ": expected int64"));
  }
  const Shape& shape() const { return shape_; }
  const int64_t* data(const Call& call) {
    if (!view_[4].cast<bool>()) view_ = call.plain(view_);
    return static_cast<const int64_t*>(pointer_of(view_));
  }

 private:
  py::tuple view_;
  Shape shape_;
};

struct Span {
  const void* data = nullptr;
  size_t bytes = 0;
};

// The array a call returns: a fresh one, or the caller's `out` once it is known to be fit and to overlap no input.
class Result {
 public:
  Result(const Call& call, const py::object& out, const Shape& shape, Element element,
         std::initializer_list<Span> inputs, const Span& residual = {}, size_t alignment = 1) {
    if (out.is_none()) {
      view_ = call.empty(shape, name_of(element));
      data_ = pointer_of(view_);
      return;
    }
    view_ = py::reinterpret_borrow<py::tuple>(out);
    const auto dtype = view_[3].cast<std::string>();
    if (dtype != name_of(element)) throw InvalidType(cat("out has dtype ", dtype, ": expected ", name_of(element)));
    const auto given = view_[2].cast<Shape>();
    if (given != shape)
      throw InvalidArgument(cat("out has shape ", shape_text(given), ": expected ", shape_text(shape)));
    if (!view_[4].cast<bool>()) throw InvalidArgument("out is not C-contiguous and aligned: expected both");
    if (view_[5].cast<bool>()) throw InvalidArgument("out is read-only: expected a writeable array");
    data_ = pointer_of(view_);
    if (!is_aligned(data_, alignment))
      throw InvalidArgument(cat("out is not aligned to ", alignment, " bytes: expected that for this algorithm"));
    size_t bytes = cuda::size_of(element);
    for (int64_t extent : shape) bytes *= static_cast<size_t>(extent);
    for (const Span& input : inputs)
      if (overlaps(bytes, input))
        throw InvalidArgument("out overlaps an input in memory: expected an array of its own");
    if (residual.data != data_ && overlaps(bytes, residual))
      throw InvalidArgument("out overlaps residual in memory: expected residual itself or an array of its own");
  }
  void* data() const { return data_; }  // needs no GIL
  py::object take() const { return view_[0]; }

 private:
  bool overlaps(size_t bytes, const Span& input) const {
    const auto *const begin = static_cast<const char*>(data_), *const other = static_cast<const char*>(input.data);
    return other && begin < other + input.bytes && other < begin + bytes;
  }

  py::tuple view_;
  void* data_ = nullptr;
};

// Queues work without the GIL; an error of the device also says what was asked of which architecture. `problem` is a
// text, or a function that makes it when it is needed.
template <class Problem, class F>
void queue(const Problem& problem, Element element, int arch, const F& work) {
  try {
    const py::gil_scoped_release release;
    work();
  } catch (const DeviceError& error) {
    std::string text;
    if constexpr (std::is_invocable_v<const Problem&>)
      text = problem();
    else
      text = problem;
    throw DeviceError(cat(error.what(), " [", text, " of ", name_of(element), " on sm_", arch, "]"));
  }
}

}  // namespace fastconv::cuda::bindings
