// Convolutions: Python arguments -> ConvSpec -> plan -> run.
#include "again.h"
#include "bindings.h"
#include "run.h"

namespace fastconv::bindings {
namespace {

struct ConvArguments {
  const Argument &x, &w;
  const std::optional<Argument>&b, &r;
};

std::shared_ptr<const ConvPlan> plan_of(const char* op, const ConvArguments& a, const py::tuple& window_tuple,
                                        const py::object& output_padding) {
  const Window window = window_from(window_tuple);
  const bool transposed = !output_padding.is_none();
  a.w.expect_dtype(a.x.dtype(), "x");
  if (a.b) a.b->expect_dtype(a.x.dtype(), "x");
  if (a.r) a.r->expect_dtype(a.x.dtype(), "x");
  ConvSpec spec = spec_from(window, op, transposed ? Direction::input_gradient : Direction::forward, a.x.dtype());
  spec.transposed = transposed;
  spec.w_shape = a.w.shape();
  spec.y_name = "x";
  if (transposed) spec.output_padding = output_padding.cast<Shape>();
  (transposed ? spec.y_shape : spec.x_shape) = a.x.shape();
  if (a.b) spec.bias_shape = a.b->shape();
  if (a.r) spec.residual_shape = a.r->shape();
  return plan_for(ConvProblem::make(spec), window.algorithm);
}

// conv_again(spatial, x, weight, bias, spelled): the result where this call has come before, else None. A function of
// Python's C interface: pybind11's own take longer to be called than a small image takes.
PyObject* conv_again(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  return for_python([&]() -> py::object {
    if (count != 5 || !PyTuple_CheckExact(arguments[4]) || PyTuple_GET_SIZE(arguments[4]) != kSpelled) return {};
    const long spatial = PyLong_AsLong(arguments[0]);
    if (spatial == -1 && PyErr_Occurred()) throw py::error_already_set();
    return call_again(spatial, arguments[1], arguments[2], arguments[3], arguments[4]);
  });
}

// After the long way has gone well.
void remember_conv(const std::string& op, long spatial, const py::object& input, const py::object& weight,
                   const py::object& bias, const py::tuple& spelled, const py::tuple& window) {
  const PlainArray plain_x(input.ptr()), plain_w(weight.ptr()), plain_b(bias.ptr());
  if (!plain_x || !plain_w || (!plain_b && !bias.is_none()) || spelled.size() != kSpelled) return;
  for (const py::handle item : spelled)
    if (!never_changes(item.ptr())) return;
  Argument x(input, "x"), w(weight, "weight");
  std::optional<Argument> b = optional_argument(bias, "bias"), none;
  // An array of foreign byte order is not the memory that a call reads.
  if (x.view().data != plain_x.data() || w.view().data != plain_w.data() || (b && b->view().data != plain_b.data()))
    return;
  remember(spatial, plain_x, plain_w, plain_b, spelled.ptr(), plan_of(op.c_str(), {x, w, b, none}, window, py::none()));
}

// conv1d, conv2d, conv3d and their transposes: two arrays and a bias in, one array out.
py::array conv(const std::string& op, const py::object& input, const py::object& weight, const py::object& bias,
               const py::object& residual, const py::tuple& window, const py::object& output_padding,
               const py::object& out) {
  Argument x(input, "x"), w(weight, "weight");
  std::optional<Argument> b = optional_argument(bias, "bias"), r = optional_argument(residual, "residual");
  const bool transposed = !output_padding.is_none();
  const ConvArguments arguments{x, w, b, r};
  const auto plan = plan_of(op.c_str(), arguments, window, output_padding);
  const ConvProblem& problem = plan->problem;

  const TensorView x_view = x.view(), w_view = w.view(), b_view = b ? b->view() : TensorView{},
                   r_view = r ? r->view() : TensorView{};
  Result result(out, problem.result_shape(), problem.dtype, {&x_view, &w_view, &b_view}, r_view);
  if (problem.batch > 0) {
    ConvOperands operands{x_view.data, w_view.data, result.data(), b_view.data, nullptr, r_view.data};
    if (transposed) std::swap(operands.x, operands.y);
    run(*plan, operands);
  }
  return result.take();
}

py::array conv_input_gradient(const std::string& op, const Shape& input_size, const py::object& weight,
                              const py::object& grad_output, const py::tuple& window_tuple, const py::object& out) {
  const Window window = window_from(window_tuple);
  Argument w(weight, "weight"), y(grad_output, "grad_output");
  w.expect_dtype(y.dtype(), "grad_output");
  ConvSpec spec = spec_from(window, op.c_str(), Direction::input_gradient, y.dtype());
  spec.x_shape = input_size;
  spec.x_name = "input_size";
  spec.w_shape = w.shape();
  spec.y_shape = y.shape();
  const ConvProblem problem = ConvProblem::make(spec);
  const auto plan = plan_for(problem, window.algorithm);

  const TensorView w_view = w.view(), y_view = y.view();
  Result result(out, problem.result_shape(), problem.dtype, {&w_view, &y_view});
  if (problem.batch > 0) run(*plan, {result.data(), w_view.data, y_view.data});
  return result.take();
}

py::array conv_weight_gradient(const std::string& op, const py::object& input, const Shape& weight_size,
                               const py::object& grad_output, const py::tuple& window_tuple, const py::object& out) {
  const Window window = window_from(window_tuple);
  Argument x(input, "input"), y(grad_output, "grad_output");
  y.expect_dtype(x.dtype(), "input");
  ConvSpec spec = spec_from(window, op.c_str(), Direction::weight_gradient, x.dtype());
  spec.x_shape = x.shape();
  spec.x_name = "input";
  spec.w_shape = weight_size;
  spec.w_name = "weight_size";
  spec.y_shape = y.shape();
  const ConvProblem problem = ConvProblem::make(spec);
  const auto plan = plan_for(problem, window.algorithm);

  const TensorView x_view = x.view(), y_view = y.view();
  Result result(out, problem.result_shape(), problem.dtype, {&x_view, &y_view});
  if (problem.batch > 0)
    run(*plan, {x_view.data, result.data(), y_view.data});
  else
    std::memset(result.data(), 0, static_cast<size_t>(problem.weight_elements()) * size_of(problem.dtype));
  return result.take();
}

}  // namespace

void register_conv(py::module_& m) {
  m.def("conv", &conv, py::arg("op"), py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("residual"),
        py::arg("window"), py::arg("output_padding"), py::arg("out"));
  static PyMethodDef again{"conv_again", nullptr, METH_FASTCALL, "The result of a call that has come before, or None."};
  again.ml_meth = reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&conv_again));
  m.attr("conv_again") = py::reinterpret_steal<py::object>(PyCFunction_NewEx(&again, nullptr, nullptr));
  m.def("remember_conv", &remember_conv);
  m.def("conv_input_gradient", &conv_input_gradient, py::arg("op"), py::arg("input_size"), py::arg("weight"),
        py::arg("grad_output"), py::arg("window"), py::arg("out"));
  m.def("conv_weight_gradient", &conv_weight_gradient, py::arg("op"), py::arg("input"), py::arg("weight_size"),
        py::arg("grad_output"), py::arg("window"), py::arg("out"));
}

}  // namespace fastconv::bindings
