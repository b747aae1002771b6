// Convolutions: Python arguments -> ConvSpec -> plan -> run.
#include <pybind11/stl.h>

#include <optional>

#include "../cpu/buffer.h"
#include "../cpu/plan.h"
#include "arrays.h"
#include "bindings.h"

namespace fastconv::bindings {
namespace {

// The arguments that all convolutions share, in the order in which ops.py passes them.
struct Window {
  int spatial;
  Shape stride;
  py::object padding;  // 'same', 'valid' or a tuple of (lo, hi)
  Shape dilation;
  int64_t groups;
  std::string layout, activation, algorithm;
};

Window window_from(const py::tuple& t) {
  return {t[0].cast<int>(),       t[1].cast<Shape>(),       t[2],
          t[3].cast<Shape>(),     t[4].cast<int64_t>(),     t[5].cast<std::string>(),
          t[6].cast<std::string>(), t[7].cast<std::string>()};
}

ConvSpec spec_from(const Window& window, const char* op, Direction direction, DType dtype) {
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
      throw InvalidArgument(cat("padding='", mode, "': expected numbers, 'same' or 'valid'"));
    spec.pad_mode = mode == "same" ? PadMode::same : PadMode::valid;
  } else {
    spec.padding = window.padding.cast<std::vector<std::array<int64_t, 2>>>();
  }
  return spec;
}

std::optional<Argument> optional_argument(const py::object& object, const char* name) {
  if (object.is_none()) return std::nullopt;
  return Argument(object, name);
}

void run(const ConvPlan& plan, const ConvOperands& operands) {
  without_gil([&] { return run_plan(plan, operands, poll_signals); });
}

std::shared_ptr<const ConvPlan> plan_for(const ConvProblem& problem, const std::string& algorithm) {
  return cached_plan(problem, this_machine(), get_num_threads(), algorithm);
}

// conv1d, conv2d, conv3d and their transposes: two arrays and a bias in, one array out.
py::array conv(const std::string& op, const py::object& input, const py::object& weight, const py::object& bias,
               const py::tuple& window_tuple, const py::object& output_padding, const py::object& out) {
  const Window window = window_from(window_tuple);
  const bool transposed = !output_padding.is_none();
  Argument x(input, "x"), w(weight, "weight");
  std::optional<Argument> b = optional_argument(bias, "bias");
  w.expect_dtype(x.dtype(), "x");
  if (b) b->expect_dtype(x.dtype(), "x");
  ConvSpec spec = spec_from(window, op.c_str(), transposed ? Direction::input_gradient : Direction::forward, x.dtype());
  spec.transposed = transposed;
  spec.w_shape = w.shape();
  spec.y_name = "x";
  if (transposed) spec.output_padding = output_padding.cast<Shape>();
  (transposed ? spec.y_shape : spec.x_shape) = x.shape();
  if (b) spec.bias_shape = b->shape();
  const ConvProblem problem = ConvProblem::make(spec);
  const auto plan = plan_for(problem, window.algorithm);

  const TensorView x_view = x.view(), w_view = w.view(), b_view = b ? b->view() : TensorView{};
  Result result(out, problem.result_shape(), problem.dtype, {&x_view, &w_view, &b_view});
  if (problem.batch > 0) {
    ConvOperands operands{x_view.data, w_view.data, result.data(), b_view.data};
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

// A plan with its weights packed and its bias copied: later changes of the user's arrays do not reach it.
class PreparedConv {
 public:
  PreparedConv(const std::string& op, const Shape& x_shape, const py::object& weight, const py::object& bias,
               const py::tuple& window_tuple) {
    const Window window = window_from(window_tuple);
    Argument w(weight, "weight");
    std::optional<Argument> b = optional_argument(bias, "bias");
    if (b) b->expect_dtype(w.dtype(), "weight");
    ConvSpec spec = spec_from(window, op.c_str(), Direction::forward, w.dtype());
    spec.x_shape = x_shape;
    spec.x_name = "x_shape";
    spec.w_shape = w.shape();
    if (b) spec.bias_shape = b->shape();
    const ConvProblem problem = ConvProblem::make(spec);
    plan_ = plan_for(problem, window.algorithm);

    const TensorView w_view = w.view();
    if (b) bias_ = copy_of(b->view());
    if (plan_->packed_bytes == 0) {
      weight_ = copy_of(w_view);
      return;
    }
    packed_ = Buffer(plan_->packed_bytes);
    without_gil([&] {
      Interrupt interrupt(poll_signals);
      plan_->algorithm->pack(*plan_, w_view.data, packed_.data(), interrupt);
      return !interrupt.stopped();
    });
  }

  py::array call(const py::object& input, const py::object& out) const {
    const ConvProblem& problem = plan_->problem;
    Argument x(input, "x");
    x.expect_dtype(problem.dtype, "the plan's weight");
    if (x.shape() != problem.x_shape())
      throw InvalidArgument(cat("x has shape ", shape_text(x.shape()), ": expected ", shape_text(problem.x_shape()),
                                ", the shape this plan was made for"));
    const TensorView x_view = x.view();
    Result result(out, problem.result_shape(), problem.dtype, {&x_view});
    if (problem.batch > 0)
      run(*plan_, {x_view.data, weight_.data(), result.data(), bias_.data(), packed_.data()});
    return result.take();
  }

  const ConvPlan& plan() const { return *plan_; }

 private:
  static Buffer copy_of(const TensorView& view) {
    const size_t bytes = static_cast<size_t>(view.elements()) * size_of(view.dtype);
    Buffer buffer(bytes);
    if (bytes) std::memcpy(buffer.data(), view.data, bytes);
    return buffer;
  }

  std::shared_ptr<const ConvPlan> plan_;
  Buffer weight_, bias_, packed_;
};

py::list explain_conv(const std::string& op, const Shape& x_shape, const Shape& w_shape, bool has_bias,
                      const std::string& dtype, const py::tuple& window_tuple) {
  const Window window = window_from(window_tuple);
  ConvSpec spec = spec_from(window, op.c_str(), Direction::forward,
                            dtype == "float64" ? DType::float64 : DType::float32);
  spec.x_shape = x_shape;
  spec.w_shape = w_shape;
  if (has_bias && !w_shape.empty()) spec.bias_shape = Shape{w_shape[0]};
  const ConvProblem problem = ConvProblem::make(spec);
  py::list rows;
  for (const Candidate& c : explain(problem, this_machine(), get_num_threads(), window.algorithm))
    rows.append(py::make_tuple(c.name, c.chosen, c.reason, c.cycles, c.workspace_bytes));
  rows.append(py::make_tuple(problem.to_string(), shape_to_tuple(problem.y_shape()), problem.flops()));
  return rows;
}

}  // namespace

void register_conv(py::module_& m) {
  m.def("conv", &conv);
  m.def("conv_input_gradient", &conv_input_gradient);
  m.def("conv_weight_gradient", &conv_weight_gradient);
  m.def("explain_conv", &explain_conv);
  py::class_<PreparedConv>(m, "PreparedConv")
      .def(py::init<const std::string&, const Shape&, const py::object&, const py::object&, const py::tuple&>())
      .def("__call__", &PreparedConv::call, py::arg("x"), py::arg("out") = py::none())
      .def_property_readonly("algorithm", [](const PreparedConv& p) { return p.plan().algorithm->name; })
      .def_property_readonly("problem", [](const PreparedConv& p) { return p.plan().problem.to_string(); })
      .def_property_readonly("x_shape", [](const PreparedConv& p) { return shape_to_tuple(p.plan().problem.x_shape()); })
      .def_property_readonly("y_shape", [](const PreparedConv& p) { return shape_to_tuple(p.plan().problem.y_shape()); })
      .def_property_readonly("packed_bytes", [](const PreparedConv& p) { return p.plan().packed_bytes; })
      .def_property_readonly("workspace_bytes", [](const PreparedConv& p) { return p.plan().workspace_bytes; });
}

}  // namespace fastconv::bindings
