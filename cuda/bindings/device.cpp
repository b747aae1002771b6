// Devices and kernels, seen from Python: how many there are, why there is none, and loading kernels beforehand.
#include <array>
#include <map>
#include <mutex>

#include "../elementwise.h"
#include "../pool.h"
#include "bindings.h"
#include "window.h"

namespace fastconv::cuda::bindings {

const Device& current_device() {
  static std::mutex mutex;
  static std::map<int, Device> known;
  int index = 0;
  check(cudaGetDevice(&index), "asking for the current device");
  const std::lock_guard lock(mutex);
  const auto found = known.find(index);
  return found != known.end() ? found->second : known.emplace(index, this_device()).first->second;
}

namespace {

// Windows that between them meet every row of the table; of those with tiles each is loaded with all.
struct Sample {
  int64_t batch, in_c, out_c, size, kernel, stride, groups;
};
constexpr Sample kSamples[] = {
    {1, 3, 64, 64, 7, 2, 1},     {1, 3, 64, 64, 3, 1, 1},   {1, 64, 64, 14, 3, 1, 1},    {32, 64, 64, 56, 3, 1, 1},
    {32, 256, 256, 56, 3, 1, 1}, {1, 64, 256, 14, 1, 1, 1}, {32, 256, 512, 56, 1, 1, 1}, {1, 512, 512, 7, 3, 2, 1},
    {1, 128, 128, 14, 3, 1, 32}, {1, 5, 7, 9, 3, 2, 1},     {1, 32, 32, 28, 3, 1, 32},   {1, 32, 32, 28, 3, 2, 32},
    {1, 32, 32, 28, 5, 1, 32},   {1, 32, 32, 28, 5, 2, 32}, {1, 32, 32, 28, 7, 1, 32},   {1, 32, 32, 28, 7, 2, 32},
    {1, 32, 32, 28, 4, 3, 32},   {1, 33, 33, 27, 3, 1, 33},
};

// Stands for arrays that no kernel will touch: offsets of a null pointer would not be defined.
void* const kNowhere = reinterpret_cast<void*>(uintptr_t{1} << 20);

void load_convolution(const Sample& s, Layout layout, Direction direction, Element element, Precision precision,
                      Stream& loading) {
  ConvSpec spec;
  spec.layout = layout, spec.groups = s.groups, spec.stride = {s.stride};
  spec.dtype = element == Element::float64 ? DType::float64 : DType::float32;
  spec.padding = {{(s.kernel - 1) / 2, (s.kernel - 1) / 2}};
  const bool last = layout == Layout::nhwc;
  spec.x_shape = last ? Shape{s.batch, s.size, s.size, s.in_c} : Shape{s.batch, s.in_c, s.size, s.size};
  spec.w_shape = Shape{s.out_c, s.in_c / s.groups, s.kernel, s.kernel};
  if (direction != Direction::forward) {
    spec.y_shape = ConvProblem::make(spec).y_shape();
    spec.direction = direction;
  }
  const ConvProblem problem = ConvProblem::make(spec);
  const Target target{current_device(), precision, element};
  for (const CudaAlgorithm& row : algorithms()) {
    if (!row.supports(problem, target).ok()) continue;
    ConvOperands nowhere{kNowhere, kNowhere, kNowhere};
    ConvPlan plan = make_plan(problem, current_device(), precision, row.name, element);
    for (const MatrixTile tile : {MatrixTile::large, MatrixTile::medium, MatrixTile::small}) {
      plan.tile = tile;
      run_plan(plan, nowhere, kNowhere, loading);
    }
  }
}

void load_pooling(Layout layout, Element element, Stream& loading) {
  for (const PoolKind kind : {PoolKind::max, PoolKind::average}) {
    for (const auto& [kernel, stride] : {std::pair<int64_t, int64_t>{2, 2}, {3, 2}, {3, 1}, {5, 1}, {14, 14}}) {
      PoolSpec spec;
      spec.kind = kind, spec.layout = layout, spec.kernel = {kernel}, spec.stride = Shape{stride};
      spec.x_shape = layout == Layout::nhwc ? Shape{2, 14, 14, 32} : Shape{2, 32, 14, 14};
      const PoolProblem problem = PoolProblem::make(spec);
      run_pool(problem, element, kNowhere, kNowhere, nullptr, loading);
      if (kind == PoolKind::average) {
        run_average_gradient(problem, element, kNowhere, kNowhere, loading);
        continue;
      }
      spec.indices = true;
      auto* const index = static_cast<int64_t*>(kNowhere);
      run_pool(PoolProblem::make(spec), element, kNowhere, kNowhere, index, loading);
      PlaceSpec places;
      places.layout = layout;
      places.values_shape = places.indices_shape = problem.y_shape();
      places.target_shape = spec.x_shape;
      const PlaceProblem place = PlaceProblem::make(places);
      for (const bool add : {false, true}) run_place(place, element, index, kNowhere, kNowhere, add, loading);
      run_take(place, element, index, kNowhere, kNowhere, loading);
      find_bad_index(place, index, index, loading);
    }
  }
  run_transpose(element, 1, 64, 64, kNowhere, kNowhere, loading);
}

void load_elementwise(Element element, Stream& loading) {
  void* const unaligned = static_cast<std::byte*>(kNowhere) + 8;
  for (void* const array : {kNowhere, unaligned}) run_relu(element, 64, array, array, loading);
  for (const bool logarithm : {false, true})
    for (const int64_t inner : {1, 2}) run_softmax(element, 2, 8, inner, logarithm, kNowhere, kNowhere, loading);
  run_pad(element, std::array{PaddedAxis{4, 1, 1}}, Border::constant, 0, kNowhere, kNowhere, loading);
}

// Loads the kernels of all rows, so that none is loaded in a call.
void warmup(int device, uintptr_t stream) {
  const py::gil_scoped_release release;
  const OnDevice on(device);
  Stream loading{reinterpret_cast<cudaStream_t>(stream)};
  loading.load_only = true;
  constexpr Precision kAll[] = {Precision::fp32, Precision::fp32_simt, Precision::tf32};
  for (const Element element : {Element::float32, Element::float16, Element::bfloat16, Element::float64})
    for (const Layout layout : {Layout::nchw, Layout::nhwc}) {
      for (const Sample& sample : kSamples)
        for (const Direction direction : {Direction::forward, Direction::input_gradient, Direction::weight_gradient})
          for (const Precision precision : std::span(kAll, element == Element::float32 ? 3 : 1))
            load_convolution(sample, layout, direction, element, precision, loading);
      load_pooling(layout, element, loading);
      if (layout == Layout::nchw) load_elementwise(element, loading);
    }
  check(cudaStreamSynchronize(loading.handle), "loading kernels");
}

// How many devices there are and, where there is none, what the driver says.
std::pair<int, std::string> devices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) return {count, ""};
  cudaGetLastError();  // it is answered here: the next call shall not see it again
  int driver = 0;
  if (error != cudaSuccess && cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0)
    return {0, "there is no NVIDIA driver on this machine"};
  return {0, error == cudaSuccess ? "no CUDA-capable device is detected" : cudaGetErrorString(error)};
}

}  // namespace

void register_device(py::module_& m) {
  m.def("devices", &devices);
  m.def("architecture", [](int device) {
    const OnDevice on(device);
    return current_device().arch;
  });
  m.def("synchronize", [](int device) {
    const py::gil_scoped_release release;
    const OnDevice on(device);
    check(cudaDeviceSynchronize(), "waiting for the device");
  });
  m.def("warmup", &warmup);
  m.def("driver", [] {
    int version = 0;  // of CUDA, as 1000 * major + 10 * minor
    check(cudaDriverGetVersion(&version), "asking for the driver's version");
    return cat(version / 1000, '.', version % 1000 / 10);
  });
}

void register_all(py::module_& m) {
  py::register_local_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const InvalidType& e) {
      py::set_error(PyExc_TypeError, e.what());
    } catch (const Unsupported& e) {
      py::set_error(PyExc_NotImplementedError, e.what());
    }
  });
  register_device(m);
  register_elementwise(m);
  register_memory(m);
  register_conv(m);
  register_plan(m);
  register_pool(m);
}

}  // namespace fastconv::cuda::bindings
