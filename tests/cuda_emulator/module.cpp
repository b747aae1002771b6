// The CUDA half over the emulator, as a Python module: plans and runs like fastconv's own, on NumPy arrays, and tells
// what the emulator counted.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "../../cuda/bindings/bindings.h"
#include "../../cuda/plan.h"
#include "emulator.h"
#include "module_arrays.h"
#include "trials.h"

namespace py = pybind11;
using fastconv::Shape;

namespace {

// One of x, w, y is a tuple: the shape of what is computed. `transposed` is None or the output padding.
py::array convolve(const std::string& direction, const py::object& x, const py::object& w, const py::object& y,
                   const py::object& bias, int spatial, const Shape& stride,
                   const std::vector<std::array<int64_t, 2>>& padding, const Shape& dilation, int64_t groups,
                   const std::string& layout, const std::string& activation, const std::string& algorithm,
                   const std::string& precision, int multiprocessors) {
  fastconv::ConvSpec spec;
  spec.spatial = spatial, spec.stride = stride, spec.padding = padding, spec.dilation = dilation, spec.groups = groups;
  spec.layout = fastconv::layout_from(layout);
  spec.activation = fastconv::activation_from(activation);
  spec.direction = direction == "forward"          ? fastconv::Direction::forward
                   : direction == "input_gradient" ? fastconv::Direction::input_gradient
                                                   : fastconv::Direction::weight_gradient;
  void* data[3] = {};
  py::array operands[3];
  std::optional<Shape>* const shapes[3] = {&spec.x_shape, &spec.w_shape, &spec.y_shape};
  const py::object* const given[3] = {&x, &w, &y};
  auto element = fastconv::cuda::Element::float32;
  py::dtype dtype("f4");
  for (int i = 0; i < 3; ++i) {
    if (py::isinstance<py::array>(*given[i])) {
      const auto array = py::reinterpret_borrow<py::array>(*given[i]);
      element = element_of(array), dtype = array.dtype();
      spec.dtype = array.itemsize() == 8 ? fastconv::DType::float64 : fastconv::DType::float32;
      *shapes[i] = shape_of(array);
      operands[i] = on_device(array);
      data[i] = const_cast<void*>(operands[i].data());
    } else if (!given[i]->is_none()) {
      *shapes[i] = given[i]->cast<Shape>();
    }
  }
  const void* bias_data = nullptr;
  py::array given_bias;
  if (!bias.is_none()) {
    given_bias = on_device(py::reinterpret_borrow<py::array>(bias));
    spec.bias_shape = shape_of(given_bias);
    bias_data = given_bias.data();
  }
  const auto problem = fastconv::ConvProblem::make(spec);
  fastconv::cuda::Device device = fastconv::cuda::this_device();
  device.multiprocessors = multiprocessors;
  const auto plan =
      fastconv::cuda::make_plan(problem, device, fastconv::cuda::precision_from(precision), algorithm, element);
  py::array result = fresh(dtype, problem.result_shape());
  for (int i = 0; i < 3; ++i)
    if (!data[i]) data[i] = result.mutable_data();
  fastconv::cuda::Stream stream;
  fastconv::cuda::run_plan(plan, {data[0], data[1], data[2], bias_data}, stream);
  return result;
}

py::dict counts() {
  py::dict all;
  for (const auto& [name, c] : emulator::counters()) {
    py::dict d;
    d["blocks"] = c.blocks, d["barriers"] = c.barriers, d["mma"] = c.mma, d["ldmatrix"] = c.ldmatrix;
    d["async_copies"] = c.async_copies;
    d["shared_loads"] = c.shared_loads, d["shared_load_phases"] = c.shared_load_phases;
    d["shared_load_wavefronts"] = c.shared_load_wavefronts;
    d["shared_stores"] = c.shared_stores, d["shared_store_phases"] = c.shared_store_phases;
    d["shared_store_wavefronts"] = c.shared_store_wavefronts;
    d["global_loads"] = c.global_loads, d["global_load_sectors"] = c.global_load_sectors;
    d["global_load_bytes"] = c.global_load_bytes;
    d["global_stores"] = c.global_stores, d["global_store_sectors"] = c.global_store_sectors;
    d["global_store_bytes"] = c.global_store_bytes;
    all[py::str(name)] = d;
  }
  return all;
}

}  // namespace

PYBIND11_MODULE(emulated_cuda, m) {
  py::register_exception<emulator::EmulationError>(m, "EmulationError");
  py::register_exception<fastconv::cuda::DeviceError>(m, "DeviceError");
  py::register_local_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const fastconv::Unsupported& e) {
      py::set_error(PyExc_NotImplementedError, e.what());
    }
  });
  m.def("convolve", &convolve, py::kw_only(), py::arg("direction"), py::arg("x") = py::none(),
        py::arg("w") = py::none(), py::arg("y") = py::none(), py::arg("bias") = py::none(), py::arg("spatial") = 2,
        py::arg("stride") = Shape{1}, py::arg("padding") = std::vector<std::array<int64_t, 2>>{{0, 0}},
        py::arg("dilation") = Shape{1}, py::arg("groups") = 1, py::arg("layout") = "NCHW",
        py::arg("activation") = "none", py::arg("algorithm") = "auto", py::arg("precision") = "fp32",
        py::arg("multiprocessors") = 4);
  m.def("algorithms", [] {
    std::vector<std::string> names;
    for (const auto& row : fastconv::cuda::algorithms()) names.emplace_back(row.name);
    return names;
  });
  m.def(
      "configure",
      [](uint64_t seed, bool lazy_copies, bool counting, bool views_) {
        emulator::options() = {seed, lazy_copies, counting};
        views() = views_;
        emulator::counters().clear();
      },
      py::kw_only(), py::arg("seed") = 0, py::arg("lazy_copies") = false, py::arg("counting") = false,
      py::arg("views") = false);
  // fastconv._cuda, computing here: what tests put in its place.
  py::module_ engine = m.def_submodule("engine");
  engine.attr("compiler") = "the emulator";
  engine.attr("architectures") = "80";
  fastconv::cuda::bindings::register_all(engine);
  bind_pooling(m);
  m.def("counts", &counts);
  m.def("run_trial", &run_trial);
}
