// Plans, seen from Python: PreparedConv keeps one with its weights, explain_conv tells how one came about.
#include "../cpu/buffer.h"
#include "again.h"
#include "bindings.h"
#include "run.h"

namespace fastconv::bindings {
namespace {

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
    plan_ = plan_for(problem, window.algorithm, true);
    x_ = {problem.x_shape(), numpy_type(problem.dtype)};
    result_ = FreshResult(problem.result_shape(), problem.dtype);
    y_ = {problem.result_shape(), numpy_type(problem.dtype)};
    x_bytes_ = bytes_of(problem.x_shape(), problem.dtype);
    y_bytes_ = bytes_of(problem.result_shape(), problem.dtype);

    const TensorView w_view = w.view();
    if (b) bias_ = copy_of(b->view());
    if (plan_->packed_bytes == 0) {
      weight_ = copy_of(w_view);
      return;
    }
    packed_ = Buffer(plan_->packed_bytes);
    without_gil([&] {
      Interrupt interrupt(poll_signals);
      pack_weights(*plan_, w_view.data, packed_.data(), interrupt);
      return !interrupt.stopped();
    });
  }

  py::array call(const py::object& input, const py::object& residual, const py::object& out) const {
    const ConvProblem& problem = plan_->problem;
    Argument x(input, "x");
    x.expect_dtype(problem.dtype, "the plan's weight");
    if (x.shape() != problem.x_shape())
      throw InvalidArgument(cat("x has shape ", shape_text(x.shape()), ": expected ", shape_text(problem.x_shape()),
                                ", the shape this plan was made for"));
    std::optional<Argument> r = optional_argument(residual, "residual");
    if (r) {
      r->expect_dtype(problem.dtype, "the plan's weight");
      problem.check_residual(r->shape());
    }
    const TensorView x_view = x.view(), r_view = r ? r->view() : TensorView{};
    Result result(out, problem.result_shape(), problem.dtype, {&x_view}, r_view);
    if (problem.batch > 0)
      run(*plan_, {x_view.data, weight_.data(), result.data(), bias_.data(), packed_.data(), r_view.data});
    return result.take();
  }

  // The result where x is plainly what the plan was made for, and `out` nothing or fit for it, else a null object.
  py::object call_again(PyObject* input, PyObject* out) const {
    const PlainArray x(input);
    if (!x || !x.is(x_)) return {};
    py::object result;
    if (out == Py_None) {
      result = result_.make();
    } else {
      const PlainArray y(out);
      if (!y.writeable() || !y.is(y_) || overlap(x.data(), x_bytes_, y.data(), y_bytes_)) return {};
      result = py::reinterpret_borrow<py::object>(out);
    }
    run_again(*plan_, {x.data(), weight_.data(), data_of(result), bias_.data(), packed_.data()});
    return result;
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
  PlainArray::Kind x_, y_;
  size_t x_bytes_ = 0, y_bytes_ = 0;
  FreshResult result_;
};

// again(x, out): the result, or None where it has to be called the long way. See conv_again in conv.cpp.
PyObject* plan_again(PyObject* self, PyObject* const* arguments, Py_ssize_t count) {
  return for_python([&]() -> py::object {
    if (count != 2) return {};
    const auto* const prepared = static_cast<const PreparedConv*>(PyCapsule_GetPointer(self, nullptr));
    return prepared->call_again(arguments[0], arguments[1]);
  });
}

py::object again_of(const py::object& prepared) {
  static PyMethodDef again{"again", as_method(&plan_again), METH_FASTCALL, "The result, or None."};
  return quick_call<PreparedConv>(again, prepared);
}

// An array, or only its shape: explain() touches no elements.
struct ArrayOrShape {
  Shape shape;
  std::optional<DType> dtype;

  ArrayOrShape(const py::object& object, const char* name) {
    if (py::isinstance<py::array>(object)) {
      const Argument array(object, name);
      shape = array.shape();
      dtype = array.dtype();
    } else {
      shape = object.cast<Shape>();
    }
  }

  void expect_dtype(DType expected, const char* name, const char* like) const {
    if (dtype && *dtype != expected)
      throw InvalidType(cat(name, " has dtype ", name_of(*dtype), ": expected ", name_of(expected), " like ", like));
  }
};

DType named_dtype(const std::string& name) {
  for (DType type : {DType::float32, DType::float64, DType::float16, DType::bfloat16})
    if (name == name_of(type)) return type;
  throw InvalidType(cat("dtype=", name, ": expected ", kDTypes));
}

py::dict explain_conv(const std::string& op, const py::object& input, const py::object& weight, const py::object& bias,
                      const std::string& dtype_name, const std::string& direction, const py::tuple& window_tuple,
                      bool prepared) {
  const Window window = window_from(window_tuple);
  const ArrayOrShape x(input, "x"), w(weight, "weight");
  const DType fallback = dtype_name.empty() ? w.dtype.value_or(DType::float32) : named_dtype(dtype_name);
  const DType dtype = dtype_name.empty() ? x.dtype.value_or(fallback) : fallback;
  x.expect_dtype(dtype, "x", "dtype");
  w.expect_dtype(dtype, "weight", dtype_name.empty() ? "x" : "dtype");
  ConvSpec spec = spec_from(window, op.c_str(), Direction::forward, dtype);
  spec.x_shape = x.shape;
  spec.w_shape = w.shape;
  if (!bias.is_none()) {
    const ArrayOrShape b(bias, "bias");
    b.expect_dtype(dtype, "bias", dtype_name.empty() ? "x" : "dtype");
    spec.bias_shape = b.shape;
  }
  const ConvProblem problem = problem_to_explain(spec, direction_from(direction));

  py::list rows;
  const int threads = get_num_threads();
  for (const Candidate& c : explain(problem, this_machine(), threads, window.algorithm, prepared))
    rows.append(py::make_tuple(c.name, c.chosen, c.reason, c.cycles, c.workspace_bytes));
  const auto elements = [](const Shape& shape) {
    double count = 1;
    for (int64_t extent : shape) count *= static_cast<double>(extent);
    return count;
  };
  py::dict d;
  d["problem"] = problem.to_string();
  d["result_shape"] = shape_to_tuple(problem.result_shape());
  d["flops"] = problem.flops();
  // each of the three arrays crosses the memory bus once at least
  d["bytes"] = (elements(problem.x_shape()) + elements(problem.w_shape()) + elements(problem.y_shape())) *
               static_cast<double>(size_of(problem.dtype));
  d["isa"] = name_of(this_machine().isa);
  d["threads"] = threads;
  d["rows"] = rows;
  return d;
}

}  // namespace

void register_plan(py::module_& m) {
  m.def("explain_conv", &explain_conv, py::arg("op"), py::arg("x"), py::arg("weight"), py::arg("bias"),
        py::arg("dtype"), py::arg("direction"), py::arg("window"), py::arg("prepared"));
  py::class_<PreparedConv>(m, "PreparedConv")
      .def(py::init<const std::string&, const Shape&, const py::object&, const py::object&, const py::tuple&>(),
           py::arg("op"), py::arg("x_shape"), py::arg("weight"), py::arg("bias"), py::arg("window"))
      .def("__call__", &PreparedConv::call, py::arg("x"), py::arg("residual") = py::none(), py::arg("out") = py::none())
      .def("again", &again_of)
      .def_property_readonly("algorithm", [](const PreparedConv& p) { return p.plan().algorithm->name; })
      .def_property_readonly("problem", [](const PreparedConv& p) { return p.plan().problem.to_string(); })
      .def_property_readonly("x_shape",
                             [](const PreparedConv& p) { return shape_to_tuple(p.plan().problem.x_shape()); })
      .def_property_readonly("y_shape",
                             [](const PreparedConv& p) { return shape_to_tuple(p.plan().problem.y_shape()); })
      .def_property_readonly("packed_bytes", [](const PreparedConv& p) { return p.plan().packed_bytes; })
      .def_property_readonly("workspace_bytes", [](const PreparedConv& p) { return p.plan().workspace_bytes; });
}

}  // namespace fastconv::bindings
