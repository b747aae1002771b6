// What all convolutions are called with, and how it becomes a ConvSpec; cuda/bindings reads it by the same code.
#pragma once

#include <pybind11/stl.h>

#include <string>

#include "../core/error.h"
#include "../core/problem.h"
#include "numbers.h"

namespace fastconv::bindings {

namespace py = pybind11;

// The arguments that all convolutions share, in the order in which ops.py passes them.
struct Window {
  int spatial;
  Shape stride;
  py::object padding;  // 'same', 'valid', an int or a tuple of (lo, hi)
  Shape dilation;
  int64_t groups;
  std::string layout, activation, algorithm;
};

inline Window window_from(const py::tuple& t) {
  return {t[0].cast<int>(),
          numbers(t[1], "stride"),
          t[2],
          numbers(t[3], "dilation"),
          number(py::object(t[4]).ptr(), "groups"),
          t[5].cast<std::string>(),
          t[6].cast<std::string>(),
          t[7].cast<std::string>()};
}

inline ConvSpec spec_from(const Window& window, const char* op, Direction direction, DType dtype) {
  ConvSpec spec;
  spec.op = op;
  spec.direction = direction;
  spec.spatial = window.spatial;
  spec.dtype = dtype;
  spec.layout = layout_from(window.layout);
  spec.activation = activation_from(window.activation);
  spec.groups = window.groups;
  spec.stride = window.stride;
  spec.dilation = window.dilation;
  if (py::isinstance<py::str>(window.padding)) {
    const auto mode = window.padding.cast<std::string>();
    if (mode != "same" && mode != "valid")
      throw InvalidArgument(cat("padding=", quoted(mode), ": expected numbers, 'same' or 'valid'"));
    spec.pad_mode = mode == "same" ? PadMode::same : PadMode::valid;
  } else if (PyLong_Check(window.padding.ptr())) {
    const int64_t pad = number(window.padding.ptr(), "padding");
    spec.padding = {{pad, pad}};
  } else {
    spec.padding = window.padding.cast<std::vector<std::array<int64_t, 2>>>();
  }
  return spec;
}

inline Direction direction_from(const std::string& name) {
  for (Direction direction : {Direction::forward, Direction::input_gradient, Direction::weight_gradient})
    if (name == name_of(direction)) return direction;
  throw InvalidArgument(cat("direction='", name, "': expected 'forward', 'input_gradient' or 'weight_gradient'"));
}

// The problem of a forward call, or that of one of its gradients: y_shape then follows from the forward call.
inline ConvProblem problem_to_explain(ConvSpec spec, Direction direction) {
  const ConvProblem forward = ConvProblem::make(spec);
  if (direction == Direction::forward) return forward;
  if (spec.bias_shape)
    throw InvalidArgument(cat("bias is given: expected None for direction='", name_of(direction), "'"));
  if (spec.activation != Activation::none)
    throw InvalidArgument(
        cat("activation='", name_of(spec.activation), "': expected None for direction='", name_of(direction), "'"));
  spec.direction = direction;
  spec.y_shape = forward.y_shape();
  return ConvProblem::make(spec);
}

}  // namespace fastconv::bindings
