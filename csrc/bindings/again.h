// The convolutions of the last calls, run again without a second look at what is as it was.
//
// A small convolution takes less time than reading its arguments, checking them and looking up its plan. All of that
// follows from the spelling, the shapes, the dtypes and the settings: where these are what they were, so is the plan.
// One entry per slot, the slot by shapes and spelling; the GIL guards it. Whatever is not plainly as it was goes the
// long way, which also says what is wrong.
#pragma once

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "run.h"

namespace fastconv::bindings {

// NumPy's own fields of an array of exactly its own type, or nothing.
class PlainArray {
 public:
  explicit PlainArray(PyObject* object) {
    const auto& api = py::detail::npy_api::get();
    constexpr int kPlain = int{py::array::c_style} | int{py::detail::npy_api::NPY_ARRAY_ALIGNED_};
    if (Py_TYPE(object) != api.PyArray_Type_) return;
    const py::detail::PyArray_Proxy* const proxy = py::detail::array_proxy(object);
    if ((proxy->flags & kPlain) == kPlain) array_ = proxy;
  }
  explicit operator bool() const { return array_; }
  void* data() const { return array_->data; }
  PyObject* dtype() const { return array_->descr; }
  Shape shape() const { return Shape(array_->dimensions, array_->dimensions + array_->nd); }
  uint64_t hash(uint64_t value) const {
    for (int i = 0; i < array_->nd; ++i) value = value * 31 + static_cast<uint64_t>(array_->dimensions[i]);
    return value;
  }
  bool is(const Shape& shape, const py::object& dtype) const {
    return array_->descr == dtype.ptr() && static_cast<size_t>(array_->nd) == shape.size() &&
           std::equal(shape.begin(), shape.end(), array_->dimensions);
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

// Over in microseconds on any machine: sooner than another thread could take the GIL, or anybody press Ctrl-C.
constexpr double kBriefFlops = 1e5;
constexpr size_t kBriefBytes = 1 << 18;  // of workspace: what few products read is still to be brought there

inline void run_again(const ConvPlan& plan, ConvOperands operands, const py::object& result) {
  if (plan.problem.batch == 0) return;
  operands.y = py::detail::array_proxy(result.ptr())->data;
  if (plan.problem.flops() < kBriefFlops && plan.workspace_bytes < kBriefBytes)
    run_plan(plan, operands, nullptr);
  else
    run(plan, operands);
}

// What a function of Python's C interface returns: the object, None for a null one, or null with an exception set.
template <class F>
PyObject* for_python(const F& f) {
  try {
    py::object result = f();
    return result ? result.release().ptr() : py::none().release().ptr();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

// stride, padding, dilation, groups, layout, activation, algorithm, precision as the user spelled them. They are what
// they were if they are the same objects, which nobody can change: kept are only such.
constexpr Py_ssize_t kSpelled = 8;

inline bool never_changes(PyObject* object) {
  if (object == Py_None || PyBool_Check(object) || PyLong_CheckExact(object) || PyUnicode_CheckExact(object))
    return true;
  if (!PyTuple_CheckExact(object)) return false;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(object); ++i)
    if (!never_changes(PyTuple_GET_ITEM(object, i))) return false;
  return true;
}

struct KnownCall {
  std::shared_ptr<const ConvPlan> plan;  // null: nothing here
  long spatial = 0;
  std::array<py::object, kSpelled> spelled;
  Shape x, w, bias;
  bool has_bias = false;
  py::object x_dtype, w_dtype, bias_dtype;
  FreshResult y;
  int threads = 0;
  Isa isa = Isa::baseline;
  double serial_cycles = 0;

  bool is_spelled(long axes, PyObject* tuple) const {
    for (Py_ssize_t i = 0; i < kSpelled; ++i)
      if (spelled[static_cast<size_t>(i)].ptr() != PyTuple_GET_ITEM(tuple, i)) return false;
    return axes == spatial && threads == get_num_threads() && isa == this_machine().isa &&
           serial_cycles == held_serial_cycles();
  }
};

inline KnownCall& known_call(const PlainArray& x, const PlainArray& w, PyObject* spelled) {
  constexpr uint64_t kSlots = 127;                        // a prime: layers of one network differ in powers of two
  static KnownCall* const calls = new KnownCall[kSlots];  // never destroyed: Python may be gone by then
  uint64_t value = w.hash(x.hash(0));
  for (Py_ssize_t i = 0; i < kSpelled; ++i)
    value = value * 31 + (reinterpret_cast<uintptr_t>(PyTuple_GET_ITEM(spelled, i)) >> 4);
  return calls[value % kSlots];
}

inline void remember(long spatial, const PlainArray& x, const PlainArray& w, const PlainArray& bias, PyObject* spelled,
                     std::shared_ptr<const ConvPlan> plan) {
  KnownCall call;
  const auto dtype_of = [](const PlainArray& array) { return py::reinterpret_borrow<py::object>(array.dtype()); };
  for (Py_ssize_t i = 0; i < kSpelled; ++i)
    call.spelled[static_cast<size_t>(i)] = py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(spelled, i));
  call.spatial = spatial;
  call.x = x.shape(), call.x_dtype = dtype_of(x);
  call.w = w.shape(), call.w_dtype = dtype_of(w);
  call.has_bias = static_cast<bool>(bias);
  if (bias) call.bias = bias.shape(), call.bias_dtype = dtype_of(bias);
  call.y = FreshResult(plan->problem.result_shape(), plan->problem.dtype);
  call.threads = get_num_threads();
  call.isa = this_machine().isa;
  call.serial_cycles = held_serial_cycles();
  call.plan = std::move(plan);
  std::swap(known_call(x, w, spelled), call);  // at once: what comes before or after may let other Python in
}

// The result, or a null object without an exception: to be called the long way.
inline py::object call_again(long spatial, PyObject* x_object, PyObject* w_object, PyObject* bias_object,
                             PyObject* spelled) {
  const PlainArray x(x_object), w(w_object), bias(bias_object);
  if (!x || !w || (!bias && bias_object != Py_None)) return {};
  const KnownCall& call = known_call(x, w, spelled);
  if (!call.plan || !x.is(call.x, call.x_dtype) || !w.is(call.w, call.w_dtype) ||
      call.has_bias != static_cast<bool>(bias) || (bias && !bias.is(call.bias, call.bias_dtype)) ||
      !call.is_spelled(spatial, spelled))
    return {};
  const std::shared_ptr<const ConvPlan> plan = call.plan;  // the slot may change hands as soon as Python runs
  py::object result = call.y.make();
  run_again(*plan, {x.data(), w.data(), nullptr, bias ? bias.data() : nullptr}, result);
  return result;
}

}  // namespace fastconv::bindings
