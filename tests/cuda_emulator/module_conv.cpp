// Convolutions over the emulator, for Python: planned and run like fastconv's own.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "../../cuda/plan.h"
#include "module_arrays.h"

namespace py = pybind11;
using namespace fastconv;
using cuda::ConvPlan;

namespace {

// What was asked for by keyword: of x, w, y one is the shape of what is computed, or absent.
struct Call {
  explicit Call(const py::kwargs& given) : numbers(given) {
    const auto direction = get<std::string>("direction", "forward");
    spec.direction = direction == "forward"          ? Direction::forward
                     : direction == "input_gradient" ? Direction::input_gradient
                                                     : Direction::weight_gradient;
    spec.spatial = get("spatial", 2), spec.groups = get("groups", int64_t{1});
    spec.stride = get("stride", Shape{1}), spec.dilation = get("dilation", Shape{1});
    spec.padding = get("padding", std::vector<std::array<int64_t, 2>>{{0, 0}});
    spec.layout = layout_from(get<std::string>("layout", "NCHW"));
    spec.activation = activation_from(get<std::string>("activation", "none"));
    operands.x = take("x", x, spec.x_shape), operands.w = take("w", w, spec.w_shape);
    operands.y = take("y", y, spec.y_shape);
    operands.bias = take("bias", bias, spec.bias_shape);
    operands.residual = take("residual", residual, spec.residual_shape);
    const auto named = get<std::string>("dtype", "");  // of calls that give shapes alone
    for (const auto e : {cuda::Element::float64, cuda::Element::float16, cuda::Element::bfloat16})
      if (named == cuda::name_of(e)) element = e;
    if (element == cuda::Element::float64) spec.dtype = DType::float64;
    device = cuda::this_device();
    device.multiprocessors = get("multiprocessors", 4), device.arch = get("arch", 80);
    precision = cuda::precision_from(get<std::string>("precision", "fp32"));
    algorithm = get<std::string>("algorithm", "auto");
    pooled = get("pooled", false);
    problem = ConvProblem::make(spec);
  }

  template <class T>
  T get(const char* name, T otherwise) const {
    return numbers.contains(name) && !numbers[name].is_none() ? numbers[name].cast<T>() : otherwise;
  }

  void* take(const char* name, py::array& array, std::optional<Shape>& shape) {
    if (!numbers.contains(name) || numbers[name].is_none()) return nullptr;
    const py::object given = numbers[name];
    if (!py::isinstance<py::array>(given)) return shape = given.cast<Shape>(), nullptr;
    array = on_device(py::reinterpret_borrow<py::array>(given));
    shape = shape_of(array);
    element = element_of(array), dtype = array.dtype();
    spec.dtype = array.itemsize() == 8 ? DType::float64 : DType::float32;
    return const_cast<void*>(array.data());
  }

  // The plan, with a tile and a number of splits other than the chosen ones where they are given.
  ConvPlan plan() const {
    ConvPlan plan = cuda::make_plan(problem, device, precision, algorithm, element, pooled);
    const auto tile = get<std::string>("tile", "");
    if (tile.empty()) return plan;
    plan.tile = tile == "large"    ? cuda::MatrixTile::large
                : tile == "medium" ? cuda::MatrixTile::medium
                                   : cuda::MatrixTile::small;
    plan.splits = plan.simt || plan.pooled ? 1 : get("splits", 1);
    size_t bytes = sizeof(float) * static_cast<size_t>(plan.splits);
    for (int64_t extent : problem.result_shape()) bytes *= static_cast<size_t>(extent);
    plan.workspace_bytes = plan.splits > 1 ? bytes : 0;
    return plan;
  }

  py::kwargs numbers;
  ConvSpec spec;
  ConvProblem problem;
  ConvOperands operands;
  cuda::Device device;
  cuda::Precision precision;
  cuda::Element element = cuda::Element::float32;
  std::string algorithm;
  bool pooled = false;
  py::dtype dtype{"f4"};
  py::array x, w, y, bias, residual;
};

py::array convolve(const py::kwargs& given) {
  Call call(given);
  const ConvPlan plan = call.plan();
  py::array result = fresh(call.dtype, call.pooled ? cuda::pooled_shape(call.problem) : call.problem.result_shape());
  for (void** data : {&call.operands.x, &call.operands.w, &call.operands.y})
    if (!*data) *data = result.mutable_data();
  cuda::Stream stream;
  cuda::run_plan(plan, call.operands, stream);
  return result;
}

// Per row: its name, estimate or None, reason, and whether it is chosen.
py::list explain(const py::kwargs& given) {
  const Call call(given);
  py::list rows;
  for (const cuda::Candidate& row :
       cuda::explain(call.problem, call.device, call.precision, call.algorithm, call.element, call.pooled)) {
    py::dict found;
    found["name"] = row.name, found["reason"] = row.reason, found["cycles"] = row.cycles, found["chosen"] = row.chosen;
    found["workspace_bytes"] = row.workspace_bytes;
    rows.append(found);
  }
  return rows;
}

py::dict plan_of(const py::kwargs& given) {
  const ConvPlan plan = Call(given).plan();
  py::dict found;
  found["algorithm"] = plan.algorithm->name, found["simt"] = plan.simt, found["splits"] = plan.splits;
  found["tile"] = plan.tile == cuda::MatrixTile::large    ? "large"
                  : plan.tile == cuda::MatrixTile::medium ? "medium"
                                                          : "small";
  found["fused"] = plan.pooled;
  return found;
}

}  // namespace

void bind_convolutions(py::module_& m) {
  m.def("convolve", &convolve);
  m.def("explain", &explain);
  m.def("plan", &plan_of);
}
