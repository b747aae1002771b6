// The CUDA half over the emulator, as a Python module: runs on NumPy arrays, and tells what the emulator counted.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>

#include "../../cuda/bindings/bindings.h"
#include "../../cuda/plan.h"
#include "emulator.h"
#include "module_arrays.h"
#include "tensor_map_emulated.h"
#include "trials.h"

namespace py = pybind11;

namespace {

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

// Encodes a tensor map and drops it: what it says is wrong, it says by an exception.
void encode_im2col(uintptr_t base, int element_bytes, const std::array<uint64_t, 4>& extent,
                   const std::array<uint64_t, 3>& stride, const std::array<int, 2>& lower,
                   const std::array<int, 2>& upper, uint32_t channels, uint32_t pixels,
                   const std::array<uint32_t, 4>& step) {
  emulator::encode_im2col(reinterpret_cast<const void*>(base), element_bytes, extent.data(), stride.data(),
                          lower.data(), upper.data(), channels, pixels, step.data());
}
void encode_tiled(uintptr_t base, int element_bytes, const std::array<uint64_t, 3>& extent,
                  const std::array<uint64_t, 2>& stride, const std::array<uint32_t, 3>& box) {
  const uint32_t step[] = {1, 1, 1};
  emulator::encode_tiled(reinterpret_cast<const void*>(base), element_bytes, extent.data(), stride.data(), box.data(),
                         step);
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
  bind_convolutions(m);
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
  m.def("encode_im2col", &encode_im2col, py::kw_only(), py::arg("base"), py::arg("element_bytes"), py::arg("extent"),
        py::arg("stride"), py::arg("lower"), py::arg("upper"), py::arg("channels"), py::arg("pixels"), py::arg("step"));
  m.def("encode_tiled", &encode_tiled, py::kw_only(), py::arg("base"), py::arg("element_bytes"), py::arg("extent"),
        py::arg("stride"), py::arg("box"));
}
