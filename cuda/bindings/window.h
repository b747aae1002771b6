// What a convolution on a GPU is called with: the tuple of csrc/bindings/window.h, with the precision behind it.
#pragma once

#include "../../csrc/bindings/window.h"
#include "../plan.h"
#include "arrays.h"

namespace fastconv::cuda::bindings {

using fastconv::bindings::direction_from;
using fastconv::bindings::problem_to_explain;
using fastconv::bindings::spec_from;
using fastconv::bindings::Window;
using fastconv::bindings::window_from;

inline Precision precision_of(const py::tuple& window) {
  return precision_from(window.size() > 8 ? window[8].cast<std::string>() : "fp32");
}

// The device of a call; its properties are asked for once.
const Device& current_device();

// Takes workspace from the caller's library and queues the plan on the stream of the call.
inline void run(const Call& call, const ConvPlan& plan, const ConvOperands& operands) {
  const size_t bytes = scratch_bytes(plan, operands.packed != nullptr);
  py::tuple memory;  // given back, in the order of the stream, when everything is queued
  if (bytes) memory = call.bytes(bytes);
  void* const scratch = bytes ? pointer_of(memory) : nullptr;
  Stream stream = call.stream;
  queue([&] { return plan.problem.to_string(); }, plan.element, plan.device.arch,
        [&] { run_plan(plan, operands, scratch, stream); });
}

}  // namespace fastconv::cuda::bindings
