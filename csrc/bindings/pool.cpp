// Pooling: Python arguments -> PoolSpec or PlaceSpec -> run.
#include "../cpu/pool.h"

#include <pybind11/stl.h>

#include "arrays.h"
#include "bindings.h"

namespace fastconv::bindings {
namespace {

// An int or a tuple of int that fit into 64 bits, as pool.py passes them: quicker than the general conversion, which a
// small pooling would notice.
int64_t number(PyObject* object, const char* name) {
  int overflow = 0;
  const int64_t value = PyLong_AsLongLongAndOverflow(object, &overflow);
  if (overflow)
    throw InvalidArgument(cat("size overflow: ", name, "=", std::string(py::str(object)), " does not fit in 64 bits"));
  if (value == -1 && PyErr_Occurred()) throw py::error_already_set();
  return value;
}

Shape numbers(const py::handle& object, const char* name) {
  if (PyLong_Check(object.ptr())) return {number(object.ptr(), name)};
  const auto tuple = py::cast<py::tuple>(object);
  Shape values;
  for (const py::handle item : tuple) values.push_back(number(item.ptr(), name));
  return values;
}

// The window of a pooling, in the order in which pool.py passes it.
PoolSpec spec_from(const py::tuple& t, const char* op, DType dtype) {
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

py::object pool(const std::string& op, const py::object& input, const py::tuple& window, bool return_indices,
                const py::object& out) {
  Argument x(input, "x");
  PoolSpec spec = spec_from(window, op.c_str(), x.dtype());
  spec.x_shape = x.shape();
  spec.indices = return_indices;
  const PoolProblem problem = PoolProblem::make(spec);
  const TensorView x_view = x.view();
  Result result(out, problem.y_shape(), problem.dtype, {&x_view});
  std::optional<py::array_t<int64_t>> indices;
  if (return_indices) indices.emplace(problem.y_shape());
  int64_t* const index = indices ? indices->mutable_data() : nullptr;
  if (problem.batch > 0)
    without_gil([&] { return run_pool(problem, x_view.data, result.data(), index, poll_signals); });
  if (indices) return py::make_tuple(result.take(), *indices);
  return result.take();
}

py::array average_gradient(const std::string& op, const Shape& input_size, const py::object& grad_output,
                           const py::tuple& window, const py::object& out) {
  Argument y(grad_output, "grad_output");
  PoolSpec spec = spec_from(window, op.c_str(), y.dtype());
  spec.x_shape = input_size;
  spec.x_name = "input_size";
  spec.y_shape = y.shape();
  const PoolProblem problem = PoolProblem::make(spec);
  const TensorView y_view = y.view();
  Result result(out, problem.x_shape(), problem.dtype, {&y_view});
  if (problem.batch > 0)
    without_gil([&] { return run_average_gradient(problem, y_view.data, result.data(), poll_signals); });
  return result.take();
}

// Refuses an index outside its plane before anything is read or written by it.
void check_indices(const std::string& op, const PlaceProblem& problem, const int64_t* index) {
  int64_t bad = -1;
  without_gil([&] {
    bad = find_bad_index(problem, index);
    return true;
  });
  if (bad < 0) return;
  Shape at(problem.values_shape.size());
  for (int64_t i = static_cast<int64_t>(at.size()) - 1, rest = bad; i >= 0; rest /= problem.values_shape[i--])
    at[i] = rest % problem.values_shape[i];
  throw InvalidArgument(cat(op, ": indices holds ", index[bad], " at ", shape_text(at), ": expected 0 to ",
                            problem.targets - 1, ", the places in a plane of ", shape_text(problem.target_shape)));
}

py::array place(const std::string& op, const TensorView& values, const int64_t* index, const PlaceProblem& problem,
                bool add, const py::object& out) {
  if (problem.batch > 0) check_indices(op, problem, index);
  const int64_t count = values.elements();
  const TensorView index_view{const_cast<int64_t*>(index), DType::float64, {count}};
  Result result(out, problem.target_shape, problem.dtype, {&values, &index_view});
  if (problem.batch > 0)
    without_gil([&] { return run_place(problem, index, values.data, result.data(), add, poll_signals); });
  return result.take();
}

py::array max_gradient(const std::string& op, int spatial, const Shape& input_size, const py::object& grad_output,
                       const py::object& indices, const std::string& layout, const py::object& out) {
  Argument y(grad_output, "grad_output");
  IndexArgument index(indices, "indices");
  PlaceSpec spec;
  spec.op = op.c_str();
  spec.spatial = spatial;
  spec.dtype = y.dtype();
  spec.layout = layout_from(layout);
  spec.values_shape = y.shape();
  spec.indices_shape = index.shape();
  spec.target_shape = input_size;
  const PlaceProblem problem = PlaceProblem::make(spec);
  return place(op, y.view(), index.view(), problem, true, out);
}

// What max_unpool and its gradient share; the gradient gives the shape of its result.
PlaceSpec unpool_spec(const char* op, const py::tuple& window, DType dtype, const IndexArgument& index) {
  PlaceSpec spec;
  spec.op = op;
  spec.spatial = window[0].cast<int>();
  spec.layout = layout_from(window[1].cast<std::string>());
  spec.dtype = dtype;
  spec.indices_shape = index.shape();
  return spec;
}

py::array max_unpool(const std::string& op, const py::object& input, const py::object& indices, const py::tuple& window,
                     const py::object& out) {
  Argument x(input, "x");
  IndexArgument index(indices, "indices");
  PlaceSpec spec = unpool_spec(op.c_str(), window, x.dtype(), index);
  spec.values_name = "x";
  spec.values_shape = x.shape();
  spec.kernel = window[2].cast<Shape>();
  spec.stride = window[3].cast<std::optional<Shape>>();
  spec.padding = window[4].cast<std::vector<std::array<int64_t, 2>>>();
  spec.output_size = window[5].cast<std::optional<Shape>>();
  const PlaceProblem problem = PlaceProblem::make(spec);
  return place(op, x.view(), index.view(), problem, false, out);
}

py::array max_unpool_gradient(const std::string& op, const py::object& grad_output, const py::object& indices,
                              const py::tuple& window, const py::object& out) {
  Argument y(grad_output, "grad_output");
  IndexArgument index(indices, "indices");
  PlaceSpec spec = unpool_spec(op.c_str(), window, y.dtype(), index);
  spec.values_name = "indices";
  spec.values_shape = index.shape();
  spec.target_shape = y.shape();
  spec.target_name = "grad_output";
  const PlaceProblem problem = PlaceProblem::make(spec);
  const TensorView y_view = y.view();
  const int64_t* const places = index.view();
  if (problem.batch > 0) check_indices(op, problem, places);
  Result result(out, problem.values_shape, problem.dtype, {&y_view});
  if (problem.batch > 0)
    without_gil([&] { return run_take(problem, places, y_view.data, result.data(), poll_signals); });
  return result.take();
}

}  // namespace

void register_pool(py::module_& m) {
  m.def("pool", &pool);
  m.def("average_pool_gradient", &average_gradient);
  m.def("max_pool_gradient", &max_gradient);
  m.def("max_unpool", &max_unpool);
  m.def("max_unpool_gradient", &max_unpool_gradient);
}

}  // namespace fastconv::bindings
