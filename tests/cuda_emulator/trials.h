// Small kernels that try the emulator itself: each instruction once, and each kind of mistake once.
#pragma once

#include <pybind11/numpy.h>

#include <string>

using TrialArray = pybind11::array_t<float, pybind11::array::c_style | pybind11::array::forcecast>;

// Runs the kernel `name` on two arrays; what it writes comes back in an array of `length` floats.
pybind11::array_t<float> run_trial(const std::string& name, const TrialArray& a, const TrialArray& b, int length);
