// A convolution with its plan made and its weights packed on the device: csrc/bindings/plan.cpp's PreparedConv.
#include "again.h"
#include "bindings.h"
#include "memory.h"
#include "window.h"

namespace fastconv::cuda::bindings {
namespace {

// Packed weights, or a copy of them, and a copy of the bias: later changes of the user's arrays do not reach it.
class PreparedConv {
 public:
  PreparedConv(const py::object& call_object, const std::string& op, const Shape& x_shape, const py::object& weight,
               const py::object& bias, const py::tuple& window_tuple) {
    const Window window = window_from(window_tuple);
    Argument w(weight, "weight");
    std::optional<Argument> b;
    if (!bias.is_none()) b.emplace(bias, "bias");
    if (b) b->expect(w.element(), "weight");
    ConvSpec spec = spec_from(window, op.c_str(), Direction::forward, w.dtype());
    spec.x_shape = x_shape;
    spec.x_name = "x_shape";
    spec.w_shape = w.shape();
    if (b) spec.bias_shape = b->shape();
    const ConvProblem problem = ConvProblem::make(spec);
    const Call call(call_object);
    plan_ = std::make_shared<const ConvPlan>(
        make_plan(problem, current_device(), precision_of(window_tuple), window.algorithm, w.element()));

    Stream stream = call.stream;
    device_ = call_object.attr("device").cast<int>();
    const void* const w_data = w.data(call);
    if (b) bias_ = copy_of(b->data(call), b->bytes(), stream);
    if (plan_->packed_bytes == 0) weight_ = copy_of(w_data, w.bytes(), stream);
    queue(problem.to_string(), plan_->element, plan_->device.arch, [&] {
      if (plan_->packed_bytes) {
        packed_ = Memory(plan_->packed_bytes, device_, stream);
        plan_->algorithm->pack(*plan_, w_data, packed_.data(), stream);
      }
      load_kernels(stream);
      // Calls may come on any stream: what they read is there.
      check(cudaStreamSynchronize(stream.handle), "preparing a convolution");
    });
  }

  py::object call(const py::object& call_object, const py::object& input, const py::object& residual,
                  const py::object& out) const {
    const ConvProblem& problem = plan_->problem;
    Argument x(input, "x");
    x.expect(plan_->element, "the plan's weight");
    if (x.shape() != problem.x_shape())
      throw InvalidArgument(cat("x has shape ", shape_text(x.shape()), ": expected ", shape_text(problem.x_shape()),
                                ", the shape this plan was made for"));
    if (const int device = call_object.attr("device").cast<int>(); device != device_)
      throw InvalidArgument(cat("x is on device ", device, ": expected device ", device_, " like the plan"));
    std::optional<Argument> r;
    if (!residual.is_none()) {
      r.emplace(residual, "residual");
      r->expect(plan_->element, "the plan's weight");
      problem.check_residual(r->shape());
      ConvProblem asked = problem;  // refused where the row of this plan adds none
      asked.has_residual = true;
      make_plan(asked, plan_->device, plan_->precision, plan_->algorithm->name, plan_->element);
    }
    const Call call(call_object);
    const size_t alignment = alignment_of(*plan_);
    const void* const x_data = x.data(call, alignment);
    const void* const r_data = r ? r->data(call, alignment) : nullptr;
    const Result result(call, out, problem.result_shape(), plan_->element, {{x_data, x.bytes()}},
                        {r_data, r ? r->bytes() : 0}, alignment);
    if (problem.batch > 0)
      run(call, *plan_,
          {const_cast<void*>(x_data), weight_.data(), result.data(), bias_.data(), packed_.data(), r_data});
    return result.take();
  }

  // After a call with this input has gone well: the next one like it takes a short way.
  void remember(const py::object& call, const py::object& input) {
    const SeenArray x(input.ptr());
    if (!x) return;
    x_ = x.kind();
    known_.emplace(plan_, call, x, plan_->problem.result_shape(), true);
  }
  // The result where x is plainly what it was, else a null object.
  py::object call_again(PyObject* input) const {
    const SeenArray x(input);
    if (!x || !known_ || !x.is(x_)) return {};
    const KnownConv known = *known_;  // may be another one as soon as Python runs
    return known.run({&x, 1}, {x.data(), weight_.data(), nullptr, bias_.data(), packed_.data()});
  }

  const ConvPlan& plan() const { return *plan_; }
  int device() const { return device_; }

 private:
  Memory copy_of(const void* from, size_t bytes, const Stream& stream) const {
    Memory memory(bytes, device_, stream);
    check(cudaMemcpyAsync(memory.data(), from, bytes, cudaMemcpyDeviceToDevice, stream.handle), "copying weights");
    return memory;
  }
  // Loads what a call will launch, so that none is loaded while a graph is captured.
  void load_kernels(const Stream& stream) const {
    if (plan_->problem.batch == 0) return;
    Stream loading = stream;
    loading.load_only = true;
    void* const nowhere = reinterpret_cast<void*>(uintptr_t{1} << 20);  // no kernel runs, nothing is touched
    run_plan(*plan_, {nowhere, weight_.data(), nowhere, bias_.data(), packed_.data()}, nowhere, loading);
  }

  std::shared_ptr<const ConvPlan> plan_;
  Memory weight_, bias_, packed_;
  int device_ = 0;
  SeenArray::Kind x_;
  std::optional<KnownConv> known_;
};

// again(x, out): the result, or None where it has to be called the long way, as with an `out`.
PyObject* plan_again(PyObject* self, PyObject* const* arguments, Py_ssize_t count) {
  return for_python([&]() -> py::object {
    if (count != 2 || arguments[1] != Py_None) return {};
    return static_cast<const PreparedConv*>(PyCapsule_GetPointer(self, nullptr))->call_again(arguments[0]);
  });
}

py::tuple as_tuple(const Shape& shape) { return py::tuple(py::cast(shape)); }

// What explain() of the CPU says, for the device of the call; only shapes and a dtype come in.
py::dict explain_conv(const py::object& call_object, const std::string& op, const Shape& x_shape, const Shape& w_shape,
                      const std::optional<Shape>& bias_shape, const std::string& dtype, const std::string& direction,
                      const py::tuple& window_tuple) {
  const Window window = window_from(window_tuple);
  const Element element = element_from(dtype, "dtype");
  ConvSpec spec = spec_from(window, op.c_str(), Direction::forward, checked_as(element));
  spec.x_shape = x_shape;
  spec.w_shape = w_shape;
  spec.bias_shape = bias_shape;
  const ConvProblem problem = problem_to_explain(spec, direction_from(direction));
  const Call call(call_object);
  const Device& device = current_device();
  py::list rows;
  for (const Candidate& c : explain(problem, device, precision_of(window_tuple), window.algorithm, element))
    rows.append(py::make_tuple(c.name, c.chosen, c.reason, c.cycles, c.workspace_bytes));
  double elements = 0;  // each of the three arrays crosses the memory bus once at least
  for (const Shape& shape : {problem.x_shape(), problem.w_shape(), problem.y_shape()}) {
    double count = 1;
    for (int64_t extent : shape) count *= static_cast<double>(extent);
    elements += count;
  }
  py::dict d;
  d["problem"] = problem.to_string();
  d["result_shape"] = as_tuple(problem.result_shape());
  d["flops"] = problem.flops();
  d["bytes"] = elements * static_cast<double>(cuda::size_of(element));
  d["isa"] = cat("sm_", device.arch);
  d["threads"] = device.multiprocessors;
  d["rows"] = rows;
  return d;
}

}  // namespace

void register_plan(py::module_& m) {
  py::class_<PreparedConv>(m, "PreparedConv", py::module_local())
      .def(py::init<const py::object&, const std::string&, const Shape&, const py::object&, const py::object&,
                    const py::tuple&>())
      .def("call", &PreparedConv::call)
      .def("remember", &PreparedConv::remember)
      .def("again",
           [](const py::object& prepared) {
             static PyMethodDef again{"again", as_method(&plan_again), METH_FASTCALL, "The result, or None."};
             return quick_call<PreparedConv>(again, prepared);
           })
      .def_property_readonly("device", &PreparedConv::device)
      .def_property_readonly("algorithm", [](const PreparedConv& p) { return p.plan().algorithm->name; })
      .def_property_readonly("problem", [](const PreparedConv& p) { return p.plan().problem.to_string(); })
      .def_property_readonly("x_shape", [](const PreparedConv& p) { return as_tuple(p.plan().problem.x_shape()); })
      .def_property_readonly("y_shape", [](const PreparedConv& p) { return as_tuple(p.plan().problem.y_shape()); })
      .def_property_readonly("packed_bytes", [](const PreparedConv& p) { return p.plan().packed_bytes; })
      .def_property_readonly("workspace_bytes", [](const PreparedConv& p) { return p.plan().workspace_bytes; });
  m.def("explain_conv", &explain_conv);
  m.def("algorithms", [] {
    std::vector<std::string> names;
    for (const CudaAlgorithm& row : algorithms()) names.emplace_back(row.name);
    return names;
  });
}

}  // namespace fastconv::cuda::bindings
