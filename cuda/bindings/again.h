// The calls of csrc/bindings/known.h with arrays on a GPU: how these are read without running Python code, and how
// results are made in their library.
//
// A DeviceArray is read by its attributes, an array of another library by the C functions that its type has in
// `__dlpack_c_exchange_api__` (DLPack 1.2). Arrays of any other kind are never seen here, and go the long way.
#pragma once

#include <array>
#include <memory>

#include "../../csrc/bindings/known.h"
#include "../plan.h"
#include "arrays.h"
#include "dlpack.h"

namespace fastconv::cuda::bindings {

using fastconv::bindings::as_method;
using fastconv::bindings::for_python;
using fastconv::bindings::KnownCalls;
using fastconv::bindings::never_changes;
using fastconv::bindings::quick_call;
using fastconv::bindings::quick_function;

// An array that a kernel can read as it is, or nothing.
class SeenArray {
 public:
  struct Kind {
    py::object type;  // null: no array
    Shape shape;
    Element element = Element::float32;
    int device = 0;
  };

  explicit SeenArray(PyObject* object);
  explicit operator bool() const { return type_; }
  void* data() const { return data_; }
  int device() const { return device_.id; }
  Element element() const { return element_; }
  Shape shape() const { return Shape(extent_.begin(), extent_.begin() + axes_); }
  Kind kind() const;
  bool is(const Kind& kind) const;
  uint64_t hash(uint64_t value) const;

  bool is_own() const { return !functions_; }
  // Whether arrays come from one library, which orders what is done with them.
  bool is_of_library(const SeenArray& other) const { return functions_ == other.functions_; }
  // The stream that a call with this array runs on.
  uintptr_t stream() const;
  // Lets that stream wait for the one that this array was made on.
  void order_before(uintptr_t stream) const;

 private:
  bool read_attributes(PyObject* object);
  bool read_by_functions(PyObject* object);

  PyTypeObject* type_ = nullptr;                          // null: nothing was read
  const dlpack::ExchangeFunctions* functions_ = nullptr;  // null: of a DeviceArray
  void* data_ = nullptr;
  dlpack::Device device_{};
  Element element_ = Element::float32;
  uintptr_t made_on_ = 0;
  int axes_ = 0;
  std::array<int64_t, 8> extent_;
};

void* data_of(const py::object& made);  // of an array that a Maker made

// Makes arrays of one shape in the library of a call.
class Maker {
 public:
  // `call` is of python/fastconv/cuda/_call.py; `like` its first array.
  Maker(const py::object& call, const SeenArray& like, const Shape& shape, Element element)
      : make_(call.attr("maker")(py::tuple(py::cast(shape)), name_of(element))), takes_stream_(like.is_own()) {}
  py::object operator()(uintptr_t stream) const { return takes_stream_ ? make_(stream) : make_(); }

 private:
  py::object make_;
  bool takes_stream_;
};

// A convolution that is asked for again: its plan, and what makes its result and its workspace.
class KnownConv {
 public:
  KnownConv(std::shared_ptr<const ConvPlan> plan, const py::object& call, const SeenArray& x, const Shape& result,
            bool packed = false);
  // The result for arrays of which all data but the result's is in `operands`; a null object where the plan cannot read
  // them where they are.
  py::object run(std::span<const SeenArray> arrays, ConvOperands operands) const;

 private:
  std::shared_ptr<const ConvPlan> plan_;
  Maker result_;
  std::optional<Maker> scratch_;
};

}  // namespace fastconv::cuda::bindings
