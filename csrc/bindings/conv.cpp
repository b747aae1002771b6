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

// Convolutions that have come before. A call is its axes, x, weight and bias, and stride, padding, dilation, groups,
// layout, activation, algorithm and precision as the user spelled them.
struct KnownConv {
  std::shared_ptr<const ConvPlan> plan;
  FreshResult y;
  Settings settings;
};
KnownCalls<PlainArray, KnownConv, 127>& known_convs() {  // a prime: layers of one network differ in powers of two
  static auto* const calls = new KnownCalls<PlainArray, KnownConv, 127>;
  return *calls;
}

// conv_again(spatial, x, weight, bias, spelled): the result where this call has come before, else None.
PyObject* conv_again(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  return for_python([&]() -> py::object {
    if (count != 5) return {};
    const PlainArray arrays[] = {PlainArray(arguments[1]), PlainArray(arguments[2]), PlainArray(arguments[3])};
    if (!arrays[0] || !arrays[1] || (!arrays[2] && arguments[3] != Py_None)) return {};
    const KnownConv* const known = known_convs().find(arguments[0], arguments[4], arrays);
    if (!known || known->settings != Settings{}) return {};
    const std::shared_ptr<const ConvPlan> plan = known->plan;
    py::object result = known->y.make();
    run_again(*plan, {arrays[0].data(), arrays[1].data(), data_of(result), arrays[2].data()});
    return result;
  });
}

// After the long way has gone well.
void remember_conv(const std::string& op, const py::object& spatial, const py::object& input, const py::object& weight,
                   const py::object& bias, const py::tuple& spelled, const py::tuple& window) {
  const PlainArray arrays[] = {PlainArray(input.ptr()), PlainArray(weight.ptr()), PlainArray(bias.ptr())};
  if (!arrays[0] || !arrays[1] || (!arrays[2] && !bias.is_none()) || !never_changes(spelled.ptr())) return;
  Argument x(input, "x"), w(weight, "weight");
  std::optional<Argument> b = optional_argument(bias, "bias"), none;
  // An array of foreign byte order is not the memory that a call reads.
  if (x.view().data != arrays[0].data() || w.view().data != arrays[1].data() ||
      (b && b->view().data != arrays[2].data()))
    return;
  const auto plan = plan_of(op.c_str(), {x, w, b, none}, window, py::none());
  known_convs().remember(spatial.ptr(), spelled.ptr(), arrays,
                         {plan, FreshResult(plan->problem.result_shape(), plan->problem.dtype), {}});
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
  m.attr("conv_again") = quick_function(again, &conv_again);
  m.def("remember_conv", &remember_conv);
  m.def("conv_input_gradient", &conv_input_gradient, py::arg("op"), py::arg("input_size"), py::arg("weight"),
        py::arg("grad_output"), py::arg("window"), py::arg("out"));
  m.def("conv_weight_gradient", &conv_weight_gradient, py::arg("op"), py::arg("input"), py::arg("weight_size"),
        py::arg("grad_output"), py::arg("window"), py::arg("out"));
}

}  // namespace fastconv::bindings
