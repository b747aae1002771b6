// The functions of fastconv._cuda, one register function per topic; those of the emulator's module are the same.
// Classes are py::module_local, so that both can be loaded in one process.
#pragma once

#include <pybind11/pybind11.h>

namespace fastconv::cuda::bindings {

void register_conv(pybind11::module_& m);
void register_device(pybind11::module_& m);
void register_elementwise(pybind11::module_& m);
void register_memory(pybind11::module_& m);
void register_plan(pybind11::module_& m);
void register_pool(pybind11::module_& m);

// All of the above, and the exceptions.
void register_all(pybind11::module_& m);

}  // namespace fastconv::cuda::bindings
