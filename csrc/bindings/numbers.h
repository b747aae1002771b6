// Numbers of a window: Python's integers to int64.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "../core/error.h"
#include "../core/tensor.h"

namespace fastconv::bindings {

namespace py = pybind11;

// An int or a tuple of int that fit into 64 bits, as conv.py and pool.py pass them: quicker than the general
// conversion, which a small image would notice.
inline int64_t number(PyObject* object, const char* name) {
  int overflow = 0;
  const int64_t value = PyLong_AsLongLongAndOverflow(object, &overflow);
  if (overflow)
    throw InvalidArgument(cat("size overflow: ", name, "=", std::string(py::str(object)), " does not fit in 64 bits"));
  if (value == -1 && PyErr_Occurred()) throw py::error_already_set();
  return value;
}

inline Shape numbers(const py::handle& object, const char* name) {
  if (PyLong_Check(object.ptr())) return {number(object.ptr(), name)};
  const auto tuple = py::cast<py::tuple>(object);
  Shape values;
  for (const py::handle item : tuple) values.push_back(number(item.ptr(), name));
  return values;
}

}  // namespace fastconv::bindings
