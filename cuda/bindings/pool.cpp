// Poolings of device arrays: the functions of csrc/bindings/pool.cpp, with the call before their arguments.
#include "../pool.h"

#include "../../csrc/bindings/pool_window.h"
#include "again.h"
#include "arrays.h"
#include "bindings.h"
#include "window.h"

namespace fastconv::cuda::bindings {
namespace {

using fastconv::bindings::refuse_index;
using fastconv::bindings::spec_from;
using fastconv::bindings::unpool_gradient_spec;
using fastconv::bindings::unpool_spec;

// What an error of the device is to name.
std::string asked(const std::string& op, const Shape& x, const Shape& y) {
  return cat(op, ' ', shape_text(x), " -> ", shape_text(y));
}

// Poolings that have come before, as in csrc/bindings/pool.cpp.
struct KnownPool {
  PoolProblem problem;
  int arch;
  Maker result;
};
KnownCalls<SeenArray, KnownPool, 61>& known_pools() {
  static auto* const calls = new KnownCalls<SeenArray, KnownPool, 61>;
  return *calls;
}

// pool_again(op, x, spelled): the result where this pooling, without indices, has come before, else None.
PyObject* pool_again(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  return for_python([&]() -> py::object {
    if (count != 3) return {};
    const SeenArray x(arguments[1]);
    if (!x) return {};
    const KnownPool* const found = known_pools().find(arguments[0], arguments[2], {&x, 1});
    if (!found) return {};
    const KnownPool known = *found;  // the slot may change hands as soon as Python runs
    const OnDevice on(x.device());
    const uintptr_t handle = x.stream();
    x.order_before(handle);
    const py::object result = known.result(handle);
    void* const y = data_of(result);
    Stream stream{reinterpret_cast<cudaStream_t>(handle)};
    const auto name = [&] { return asked(py::str(arguments[0]), x.shape(), known.problem.y_shape()); };
    if (known.problem.batch > 0)
      queue(name, x.element(), known.arch, [&] { run_pool(known.problem, x.element(), x.data(), y, nullptr, stream); });
    return result;
  });
}

// After the long way has gone well.
void remember_pool(const py::str& op, const py::object& input, const py::tuple& spelled, const py::tuple& window,
                   const py::object& make_call) {
  if (!never_changes(spelled.ptr())) return;
  const SeenArray x(input.ptr());
  if (!x) return;
  const OnDevice on(x.device());
  PoolSpec spec = spec_from(window, "", checked_as(x.element()));
  spec.x_shape = x.shape();
  const PoolProblem problem = PoolProblem::make(spec);
  const Maker maker(make_call("x", input), x, problem.y_shape(), x.element());
  known_pools().remember(op.ptr(), spelled.ptr(), {&x, 1}, {problem, current_device().arch, maker});
}

py::object pool(const py::object& call_object, const std::string& op, const py::object& input, const py::tuple& window,
                bool return_indices, const py::object& out) {
  Argument x(input, "x");
  PoolSpec spec = spec_from(window, op.c_str(), x.dtype());
  spec.x_shape = x.shape();
  spec.indices = return_indices;
  const PoolProblem problem = PoolProblem::make(spec);
  const Call call(call_object);
  const void* const x_data = x.data(call);
  const Shape shape = problem.y_shape();
  const Result result(call, out, shape, x.element(), {{x_data, x.bytes()}});
  py::object indices;
  int64_t* index = nullptr;
  if (return_indices) {
    const py::tuple view = call.empty(shape, "int64");
    indices = view[0];
    index = static_cast<int64_t*>(pointer_of(view));
  }
  Stream stream = call.stream;
  if (problem.batch > 0)
    queue(asked(op, x.shape(), shape), x.element(), current_device().arch,
          [&] { run_pool(problem, x.element(), x_data, result.data(), index, stream); });
  if (return_indices) return py::make_tuple(result.take(), indices);
  return result.take();
}

py::object average_gradient(const py::object& call_object, const std::string& op, const Shape& input_size,
                            const py::object& grad_output, const py::tuple& window, const py::object& out) {
  Argument y(grad_output, "grad_output");
  PoolSpec spec = spec_from(window, op.c_str(), y.dtype());
  spec.x_shape = input_size;
  spec.x_name = "input_size";
  spec.y_shape = y.shape();
  const PoolProblem problem = PoolProblem::make(spec);
  const Call call(call_object);
  const void* const y_data = y.data(call);
  const Result result(call, out, problem.x_shape(), y.element(), {{y_data, y.bytes()}});
  Stream stream = call.stream;
  if (problem.batch > 0)
    queue(asked(op, y.shape(), input_size), y.element(), current_device().arch,
          [&] { run_average_gradient(problem, y.element(), y_data, result.data(), stream); });
  return result.take();
}

// Refuses an index outside its plane before anything is written by it. This waits for the device. While a graph is
// being captured nothing may wait, and an index could only be looked at when the graph runs: the kernels leave out the
// wrong ones then.
void check_indices(const Call& call, const std::string& op, const PlaceProblem& problem, const int64_t* index) {
  cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(call.stream.handle, &capturing), "asking whether the stream is captured");
  if (problem.batch == 0 || capturing != cudaStreamCaptureStatusNone) return;
  const py::tuple view = call.bytes(sizeof(int64_t));
  auto* const found = static_cast<int64_t*>(pointer_of(view));
  Stream stream = call.stream;
  int64_t bad = -1, value = 0;
  queue(op, Element::float32, current_device().arch, [&] {
    const auto fetch = [&](int64_t* to, const int64_t* from) {
      check(cudaMemcpyAsync(to, from, sizeof *to, cudaMemcpyDeviceToHost, stream.handle), "reading an index");
      check(cudaStreamSynchronize(stream.handle), "checking indices");
    };
    find_bad_index(problem, index, found, stream);
    fetch(&bad, found);
    if (bad >= 0) fetch(&value, index + bad);
  });
  if (bad >= 0) refuse_index(op, problem, bad, value);
}

py::object place(const Call& call, const std::string& op, Argument& values, IndexArgument& indices,
                 const PlaceProblem& problem, bool add, const py::object& out) {
  const void* const data = values.data(call);
  const int64_t* const index = indices.data(call);
  check_indices(call, op, problem, index);
  const size_t index_bytes = values.bytes() / cuda::size_of(values.element()) * sizeof(int64_t);
  const Result result(call, out, problem.target_shape, values.element(),
                      {{data, values.bytes()}, {index, index_bytes}});
  Stream stream = call.stream;
  if (problem.batch > 0)
    queue(asked(op, values.shape(), problem.target_shape), values.element(), current_device().arch,
          [&] { run_place(problem, values.element(), index, data, result.data(), add, stream); });
  return result.take();
}

py::object max_gradient(const py::object& call_object, const std::string& op, int spatial, const Shape& input_size,
                        const py::object& grad_output, const py::object& indices, const std::string& layout,
                        const py::object& out) {
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
  return place(Call(call_object), op, y, index, problem, true, out);
}

py::object max_unpool(const py::object& call_object, const std::string& op, const py::object& input,
                      const py::object& indices, const py::tuple& window, const py::object& out) {
  Argument x(input, "x");
  IndexArgument index(indices, "indices");
  const PlaceProblem problem = PlaceProblem::make(unpool_spec(op.c_str(), window, x.dtype(), x.shape(), index.shape()));
  return place(Call(call_object), op, x, index, problem, false, out);
}

py::object max_unpool_gradient(const py::object& call_object, const std::string& op, const py::object& grad_output,
                               const py::object& indices, const py::tuple& window, const py::object& out) {
  Argument y(grad_output, "grad_output");
  IndexArgument index(indices, "indices");
  const PlaceProblem problem =
      PlaceProblem::make(unpool_gradient_spec(op.c_str(), window, y.dtype(), y.shape(), index.shape()));
  const Call call(call_object);
  const void* const y_data = y.data(call);
  const int64_t* const places = index.data(call);
  check_indices(call, op, problem, places);
  const Result result(call, out, problem.values_shape, y.element(), {{y_data, y.bytes()}});
  Stream stream = call.stream;
  if (problem.batch > 0)
    queue(asked(op, y.shape(), problem.values_shape), y.element(), current_device().arch,
          [&] { run_take(problem, y.element(), places, y_data, result.data(), stream); });
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

}  // namespace fastconv::cuda::bindings
