// One register function per topic; module.cpp calls them.
#pragma once

#include <pybind11/pybind11.h>

#include "../core/tensor.h"

namespace fastconv::bindings {

inline pybind11::tuple shape_to_tuple(const Shape& shape) {
  pybind11::tuple tuple(shape.size());
  for (size_t i = 0; i < shape.size(); ++i) tuple[i] = shape[i];
  return tuple;
}

void register_conv(pybind11::module_& m);
void register_plan(pybind11::module_& m);
void register_pool(pybind11::module_& m);
void register_optim(pybind11::module_& m);
void register_introspection(pybind11::module_& m);

}  // namespace fastconv::bindings
