// Pooling and flattening over the emulator, for Python.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "../../cuda/pool.h"
#include "module_arrays.h"

namespace py = pybind11;
using namespace fastconv;
using cuda::Stream;

namespace {

template <class T>
T get(const py::kwargs& numbers, const char* name, T otherwise) {
  return numbers.contains(name) ? numbers[name].cast<T>() : otherwise;
}

PoolSpec spec_from(const py::kwargs& n) {
  PoolSpec spec;
  spec.kind = get<std::string>(n, "kind", "max") == "max" ? PoolKind::max : PoolKind::average;
  spec.layout = layout_from(get<std::string>(n, "layout", "NCHW"));
  spec.spatial = get(n, "spatial", 2);
  if (n.contains("adaptive")) {
    spec.adaptive = true;
    for (const auto& size : n["adaptive"].cast<std::vector<std::optional<int64_t>>>())
      spec.output_size.push_back(size.value_or(kSameSize));
  }
  spec.kernel = get(n, "kernel", Shape{1}), spec.dilation = get(n, "dilation", Shape{1});
  if (n.contains("stride")) spec.stride = n["stride"].cast<Shape>();
  spec.padding = get(n, "padding", std::vector<std::array<int64_t, 2>>{{0, 0}});
  spec.pad_pairs = true;
  spec.ceil_mode = get(n, "ceil_mode", false), spec.count_include_pad = get(n, "count_include_pad", true);
  spec.indices = get(n, "indices", false);
  if (n.contains("divisor_override")) spec.divisor_override = n["divisor_override"].cast<int64_t>();
  return spec;
}

py::object pool(const py::array& given, const py::kwargs& n) {
  PoolSpec spec = spec_from(n);
  spec.x_shape = shape_of(given);
  const PoolProblem problem = PoolProblem::make(spec);
  const py::array x = on_device(given);
  py::object y = fresh(given.dtype(), problem.y_shape());
  py::array index;
  if (spec.indices) index = fresh(py::dtype("i8"), problem.y_shape());
  Stream stream;
  cuda::run_pool(problem, element_of(given), x.data(), py::array(y).mutable_data(),
                 spec.indices ? static_cast<int64_t*>(index.mutable_data()) : nullptr, stream);
  if (!spec.indices) return y;
  return py::make_tuple(y, index);
}

py::array average_gradient(const Shape& x_shape, const py::array& given, const py::kwargs& n) {
  PoolSpec spec = spec_from(n);
  spec.kind = PoolKind::average;
  spec.x_shape = x_shape;
  spec.y_shape = shape_of(given);
  const PoolProblem problem = PoolProblem::make(spec);
  const py::array g = on_device(given);
  py::array x = fresh(given.dtype(), x_shape);
  Stream stream;
  cuda::run_average_gradient(problem, element_of(given), g.data(), x.mutable_data(), stream);
  return x;
}

PlaceProblem place_problem(const py::array& values, const py::array& index, const Shape& targets, int spatial,
                           const std::string& layout) {
  PlaceSpec spec;
  spec.spatial = spatial, spec.layout = layout_from(layout);
  spec.values_shape = shape_of(values), spec.indices_shape = shape_of(index), spec.target_shape = targets;
  return PlaceProblem::make(spec);
}

py::array place(const py::array& values, const py::array& index, const Shape& size, bool add, int spatial,
                const std::string& layout) {
  const PlaceProblem problem = place_problem(values, index, size, spatial, layout);
  const py::array from = on_device(values), at = on_device(index);
  py::array targets = fresh(values.dtype(), size);
  Stream stream;
  cuda::run_place(problem, element_of(values), static_cast<const int64_t*>(at.data()), from.data(),
                  targets.mutable_data(), add, stream);
  return targets;
}

py::array take(const py::array& targets, const py::array& index, int spatial, const std::string& layout) {
  const PlaceProblem problem = place_problem(index, index, shape_of(targets), spatial, layout);
  const py::array from = on_device(targets), at = on_device(index);
  py::array values = fresh(targets.dtype(), shape_of(index));
  Stream stream;
  cuda::run_take(problem, element_of(targets), static_cast<const int64_t*>(at.data()), from.data(),
                 values.mutable_data(), stream);
  return values;
}

int64_t bad_index(const py::array& index, const Shape& size, int spatial) {
  const py::array at = on_device(index);
  py::array bad = fresh(py::dtype("i8"), {1});
  Stream stream;
  cuda::find_bad_index(place_problem(index, index, size, spatial, "NCHW"), static_cast<const int64_t*>(at.data()),
                       static_cast<int64_t*>(bad.mutable_data()), stream);
  return *static_cast<const int64_t*>(bad.data());
}

py::array transpose(const py::array& given) {
  const Shape shape = shape_of(given);
  const py::array src = on_device(given);
  py::array dst = fresh(given.dtype(), {shape[0], shape[2], shape[1]});
  Stream stream;
  cuda::run_transpose(element_of(given), shape[0], shape[1], shape[2], src.data(), dst.mutable_data(), stream);
  return dst;
}

}  // namespace

void bind_pooling(py::module_& m) {
  m.def("pool", &pool);
  m.def("average_gradient", &average_gradient);
  m.def("place", &place, py::arg("values"), py::arg("index"), py::arg("size"), py::kw_only(), py::arg("add"),
        py::arg("spatial"), py::arg("layout"));
  m.def("take", &take, py::arg("targets"), py::arg("index"), py::kw_only(), py::arg("spatial"), py::arg("layout"));
  m.def("bad_index", &bad_index, py::arg("index"), py::arg("size"), py::arg("spatial"));
  m.def("transpose", &transpose);
}
