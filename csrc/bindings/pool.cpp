// Pooling: Python arguments -> PoolSpec or PlaceSpec -> run.
#include "../cpu/pool.h"

#include <pybind11/stl.h>

#include "again.h"
#include "arrays.h"
#include "bindings.h"
#include "pool_window.h"

namespace fastconv::bindings {
namespace {

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

// Poolings that have come before. A call is its name, x, and the window as the user spelled it.
struct KnownPool {
  PoolProblem problem;
  FreshResult y;
};
KnownCalls<PlainArray, KnownPool, 61>& known_pools() {
  static auto* const calls = new KnownCalls<PlainArray, KnownPool, 61>;
  return *calls;
}

// pool_again(op, x, spelled): the result where this pooling, without indices, has come before, else None.
PyObject* pool_again(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  return for_python([&]() -> py::object {
    if (count != 3) return {};
    const PlainArray x(arguments[1]);
    if (!x) return {};
    const KnownPool* const known = known_pools().find(arguments[0], arguments[2], {&x, 1});
    if (!known) return {};
    const PoolProblem problem = known->problem;
    py::object result = known->y.make();
    if (problem.batch > 0)
      without_gil([&] {
        return run_pool(problem, x.data(), py::detail::array_proxy(result.ptr())->data, nullptr, poll_signals);
      });
    return result;
  });
}

// After the long way has gone well.
void remember_pool(const py::str& op, const py::object& input, const py::tuple& spelled, const py::tuple& window) {
  const PlainArray x(input.ptr());
  if (!x || !never_changes(spelled.ptr())) return;
  const std::optional<DType> dtype = dtype_from(x.dtype());
  const char order = x.dtype().byteorder();
  if (!dtype || (order != '=' && order != '|')) return;
  PoolSpec spec = spec_from(window, "", *dtype);
  spec.x_shape = x.shape();
  const PoolProblem problem = PoolProblem::make(spec);
  known_pools().remember(op.ptr(), spelled.ptr(), {&x, 1}, {problem, FreshResult(problem.y_shape(), *dtype)});
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
  if (bad >= 0) refuse_index(op, problem, bad, index[bad]);
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

py::array max_unpool(const std::string& op, const py::object& input, const py::object& indices, const py::tuple& window,
                     const py::object& out) {
  Argument x(input, "x");
  IndexArgument index(indices, "indices");
  const PlaceProblem problem = PlaceProblem::make(unpool_spec(op.c_str(), window, x.dtype(), x.shape(), index.shape()));
  return place(op, x.view(), index.view(), problem, false, out);
}

py::array max_unpool_gradient(const std::string& op, const py::object& grad_output, const py::object& indices,
                              const py::tuple& window, const py::object& out) {
  Argument y(grad_output, "grad_output");
  IndexArgument index(indices, "indices");
  const PlaceProblem problem =
      PlaceProblem::make(unpool_gradient_spec(op.c_str(), window, y.dtype(), y.shape(), index.shape()));
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
  static PyMethodDef again{"pool_again", nullptr, METH_FASTCALL, "The result of a call that has come before, or None."};
  m.attr("pool_again") = quick_function(again, &pool_again);
  m.def("remember_pool", &remember_pool);
  m.def("average_pool_gradient", &average_gradient);
  m.def("max_pool_gradient", &max_gradient);
  m.def("max_unpool", &max_unpool);
  m.def("max_unpool_gradient", &max_unpool_gradient);
}

}  // namespace fastconv::bindings
