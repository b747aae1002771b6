// The calls of known.h with NumPy arrays: how these are read, and how results are made.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "known.h"
#include "run.h"

namespace fastconv::bindings {

// NumPy's own fields of an array of exactly its own type, or nothing.
class PlainArray {
 public:
  struct Kind {
    Shape shape;
    py::object dtype;  // null: no array
  };

  explicit PlainArray(PyObject* object) {
    const auto& api = py::detail::npy_api::get();
    constexpr int kPlain = int{py::array::c_style} | int{py::detail::npy_api::NPY_ARRAY_ALIGNED_};
    if (Py_TYPE(object) != api.PyArray_Type_) return;
    const py::detail::PyArray_Proxy* const proxy = py::detail::array_proxy(object);
    if ((proxy->flags & kPlain) == kPlain) array_ = proxy;
  }
  explicit operator bool() const { return array_; }
  void* data() const { return array_ ? array_->data : nullptr; }
  bool writeable() const { return array_ && (array_->flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_) != 0; }
  Shape shape() const { return Shape(array_->dimensions, array_->dimensions + array_->nd); }
  py::dtype dtype() const { return py::reinterpret_borrow<py::dtype>(array_->descr); }
  Kind kind() const { return array_ ? Kind{shape(), dtype()} : Kind{}; }
  bool is(const Kind& kind) const {
    if (!array_) return !kind.dtype;
    return array_->descr == kind.dtype.ptr() && static_cast<size_t>(array_->nd) == kind.shape.size() &&
           std::equal(kind.shape.begin(), kind.shape.end(), array_->dimensions);
  }
  uint64_t hash(uint64_t value) const {
    for (int i = 0; array_ && i < array_->nd; ++i) value = value * 31 + static_cast<uint64_t>(array_->dimensions[i]);
    return value;
  }

 private:
  const py::detail::PyArray_Proxy* array_ = nullptr;
};

// An array for a result, without the work of pybind11's constructor.
class FreshResult {
 public:
  FreshResult() = default;
  FreshResult(const Shape& shape, DType dtype) : shape_(shape.begin(), shape.end()), dtype_(numpy_type(dtype)) {}
  py::object make() const {
    const auto& api = py::detail::npy_api::get();
    auto result = py::reinterpret_steal<py::object>(
        api.PyArray_NewFromDescr_(api.PyArray_Type_, py::object(dtype_).release().ptr(),
                                  static_cast<int>(shape_.size()), shape_.data(), nullptr, nullptr, 0, nullptr));
    if (!result) throw py::error_already_set();
    return result;
  }

 private:
  std::vector<Py_intptr_t> shape_;
  py::object dtype_;
};

inline void* data_of(const py::object& array) { return py::detail::array_proxy(array.ptr())->data; }

// Over in microseconds on any machine: sooner than another thread could take the GIL, or anybody press Ctrl-C.
constexpr double kBriefFlops = 1e5;
constexpr size_t kBriefBytes = 1 << 18;  // of workspace: what few products read is still to be brought there

inline void run_again(const ConvPlan& plan, const ConvOperands& operands) {
  if (plan.problem.batch == 0) return;
  if (plan.problem.flops() < kBriefFlops && plan.workspace_bytes < kBriefBytes)
    run_plan(plan, operands, nullptr);
  else
    run(plan, operands);
}

// What a plan was chosen for besides its problem.
struct Settings {
  int threads = get_num_threads();
  Isa isa = this_machine().isa;
  double serial_cycles = held_serial_cycles();

  bool operator==(const Settings&) const = default;
};

}  // namespace fastconv::bindings
