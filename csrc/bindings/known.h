// Calls that have come before: what was found for them is found again without a second look at what is as it was.
//
// A small convolution takes less time than reading its arguments, checking them and looking up its plan. All of that
// follows from the spelling, and from the shapes and dtypes of the arrays: where these are what they were, so is what
// was found. Whatever is not plainly as it was goes the long way, which also says what is wrong. cuda/bindings keeps
// its calls by the same table.
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace fastconv::bindings {

namespace py = pybind11;

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

// Of Python's C interface, as a function of a module: pybind11's own take longer to be called than a small image takes.
// `method` is static; `self` is given to it.
using FastFunction = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t);
inline PyCFunction as_method(FastFunction function) {  // for METH_FASTCALL
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}
inline py::object quick_function(PyMethodDef& method, FastFunction function, const py::object& self = {}) {
  method.ml_meth = as_method(function);
  return py::reinterpret_steal<py::object>(PyCFunction_NewEx(&method, self.ptr(), nullptr));
}

// A function over a prepared convolution, which it keeps alive.
template <class Prepared>
py::object quick_call(PyMethodDef& method, const py::object& prepared) {
  const auto self =
      py::reinterpret_steal<py::object>(PyCapsule_New(prepared.cast<Prepared*>(), nullptr, [](PyObject* capsule) {
        Py_XDECREF(static_cast<PyObject*>(PyCapsule_GetContext(capsule)));
      }));
  if (!self || PyCapsule_SetContext(self.ptr(), prepared.ptr()) != 0) throw py::error_already_set();
  prepared.inc_ref();
  return py::reinterpret_steal<py::object>(PyCFunction_NewEx(&method, self.ptr(), nullptr));
}

// Spellings that nobody can change. Only such are kept.
inline bool never_changes(PyObject* object) {
  if (object == Py_None || PyBool_Check(object) || PyLong_CheckExact(object) || PyUnicode_CheckExact(object))
    return true;
  if (!PyTuple_CheckExact(object)) return false;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(object); ++i)
    if (!never_changes(PyTuple_GET_ITEM(object, i))) return false;
  return true;
}

// The same objects, or tuples of the same objects: small numbers and names in a program are one object each.
inline bool is_same(PyObject* kept, PyObject* other) {
  if (kept == other) return true;
  if (!PyTuple_CheckExact(kept) || !PyTuple_CheckExact(other)) return false;
  if (PyTuple_GET_SIZE(kept) != PyTuple_GET_SIZE(other)) return false;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(kept); ++i)
    if (!is_same(PyTuple_GET_ITEM(kept, i), PyTuple_GET_ITEM(other, i))) return false;
  return true;
}

// Equal for what is the same, down to the tuples in the tuples of a window; deeper ones need not be found.
template <int depth = 2>
uint64_t hash_of(PyObject* object, uint64_t value) {
  if constexpr (depth >= 0) {
    if (PyTuple_CheckExact(object)) {
      for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(object); ++i)
        value = hash_of<depth - 1>(PyTuple_GET_ITEM(object, i), value * 31 + 1);
      return value;
    }
  }
  return value * 31 + (reinterpret_cast<uintptr_t>(object) >> 4);
}

// An Array is one argument as it is read without Python's help: false for None, `kind()` what is to be the same next
// time, `is(kind)` whether it is, and `hash(value)` of its shape. One call per slot, the slot by spelling and shapes;
// the GIL guards it. Tables are never destroyed: Python may be gone by then.
template <class Array, class Found, size_t kSlots>
class KnownCalls {
 public:
  // What was found for this call, or null. The slot may change hands as soon as Python runs: copy what is needed later.
  const Found* find(PyObject* name, PyObject* spelled, std::span<const Array> arrays) const {
    const Call& call = slots_[slot(name, spelled, arrays)];
    if (!call.found || call.name.ptr() != name || call.kinds.size() != arrays.size()) return nullptr;
    for (size_t i = 0; i < arrays.size(); ++i)
      if (!arrays[i].is(call.kinds[i])) return nullptr;
    return is_same(call.spelled.ptr(), spelled) ? &*call.found : nullptr;
  }

  void remember(PyObject* name, PyObject* spelled, std::span<const Array> arrays, Found found) {
    if (!never_changes(name) || !never_changes(spelled)) return;
    Call call{py::reinterpret_borrow<py::object>(name), py::reinterpret_borrow<py::object>(spelled), {}, {}};
    for (const Array& array : arrays) call.kinds.push_back(array.kind());
    call.found = std::move(found);
    std::swap(slots_[slot(name, spelled, arrays)], call);  // at once: the rest may let other Python in
  }

 private:
  struct Call {
    py::object name, spelled;
    std::vector<typename Array::Kind> kinds;
    std::optional<Found> found;
  };

  static size_t slot(PyObject* name, PyObject* spelled, std::span<const Array> arrays) {
    uint64_t value = reinterpret_cast<uintptr_t>(name) >> 4;
    for (const Array& array : arrays) value = array.hash(value);
    return hash_of(spelled, value) % kSlots;
  }

  std::array<Call, kSlots> slots_;
};

}  // namespace fastconv::bindings
