// What poolings are called with, and how it becomes a PoolSpec or PlaceSpec; cuda/bindings reads it by the same code.
#pragma once

#include <pybind11/stl.h>

#include <string>

#include "../core/error.h"
#include "../core/pool_problem.h"
#include "numbers.h"

namespace fastconv::bindings {

namespace py = pybind11;

// The window of a pooling, in the order in which pool.py passes it.
inline PoolSpec spec_from(const py::tuple& t, const char* op, DType dtype) {
  PoolSpec spec;
  spec.op = op;
  spec.dtype = dtype;
  spec.kind = t[0].cast<bool>() ? PoolKind::average : PoolKind::max;
  spec.spatial = t[1].cast<int>();
  spec.layout = layout_from(t[2].cast<std::string>());
  if (t.size() == 4) {
    spec.adaptive = true;
    for (const py::handle size : t[3]) spec.output_size.push_back(size.is_none() ? kSameSize : size.cast<int64_t>());
    return spec;
  }
  spec.kernel = numbers(t[3], "kernel_size");
  if (!t[4].is_none()) spec.stride = numbers(t[4], "stride");
  if (py::isinstance<py::str>(t[5])) {
    const auto mode = t[5].cast<std::string>();
    if (mode != "same" && mode != "valid")
      throw InvalidArgument(cat(op, ": padding='", mode, "': expected numbers, 'same' or 'valid'"));
    spec.pad_mode = mode == "same" ? PadMode::same : PadMode::valid;
  } else if (PyLong_Check(t[5].ptr())) {
    const int64_t pad = number(t[5].ptr(), "padding");
    spec.padding = {{pad, pad}};
  } else {
    spec.padding.clear();
    for (const py::handle pair : t[5]) {
      const Shape ends = numbers(pair, "padding");
      spec.padding.push_back({ends[0], ends[1]});
    }
  }
  spec.pad_pairs = t[6].cast<bool>();
  spec.dilation = numbers(t[7], "dilation");
  spec.ceil_mode = t[8].cast<bool>();
  spec.count_include_pad = t[9].cast<bool>();
  spec.divisor_override = t[10].cast<std::optional<int64_t>>();
  return spec;
}

// What max unpooling and its gradient have in common: the axes and the layout of the window, and the indices.
inline PlaceSpec place_spec(const char* op, const py::tuple& window, DType dtype, const Shape& indices) {
  PlaceSpec spec;
  spec.op = op;
  spec.spatial = window[0].cast<int>();
  spec.layout = layout_from(window[1].cast<std::string>());
  spec.dtype = dtype;
  spec.indices_shape = indices;
  return spec;
}

// The window of max unpooling, in the order in which unpool.py passes it.
inline PlaceSpec unpool_spec(const char* op, const py::tuple& window, DType dtype, const Shape& x,
                             const Shape& indices) {
  PlaceSpec spec = place_spec(op, window, dtype, indices);
  spec.values_name = "x";
  spec.values_shape = x;
  spec.kernel = window[2].cast<Shape>();
  spec.stride = window[3].cast<std::optional<Shape>>();
  spec.padding = window[4].cast<std::vector<std::array<int64_t, 2>>>();
  spec.output_size = window[5].cast<std::optional<Shape>>();
  return spec;
}

// Its gradient has the spatial axes and the layout of that window, and is given the shape of its result.
inline PlaceSpec unpool_gradient_spec(const char* op, const py::tuple& window, DType dtype, const Shape& grad_output,
                                      const Shape& indices) {
  PlaceSpec spec = place_spec(op, window, dtype, indices);
  spec.values_shape = indices;
  spec.values_name = "indices";
  spec.target_shape = grad_output;
  spec.target_name = "grad_output";
  return spec;
}

// For an index that is outside its plane: `bad` is its position, `value` what stands there.
[[noreturn]] inline void refuse_index(const std::string& op, const PlaceProblem& problem, int64_t bad, int64_t value) {
  Shape at(problem.values_shape.size());
  for (int64_t i = static_cast<int64_t>(at.size()) - 1, rest = bad; i >= 0; rest /= problem.values_shape[i--])
    at[i] = rest % problem.values_shape[i];
  throw InvalidArgument(cat(op, ": indices holds ", value, " at ", shape_text(at), ": expected 0 to ",
                            problem.targets - 1, ", the places in a plane of ", shape_text(problem.target_shape)));
}

}  // namespace fastconv::bindings
