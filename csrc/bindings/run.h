// From a checked problem to a plan and its run, for all convolutions on the CPU.
#pragma once

#include <memory>
#include <optional>

#include "../cpu/plan.h"
#include "arrays.h"
#include "window.h"

namespace fastconv::bindings {

inline std::optional<Argument> optional_argument(const py::object& object, const char* name) {
  if (object.is_none()) return std::nullopt;
  return Argument(object, name);
}

inline void run(const ConvPlan& plan, const ConvOperands& operands) {
  without_gil([&] { return run_plan(plan, operands, poll_signals); });
}

inline std::shared_ptr<const ConvPlan> plan_for(const ConvProblem& problem, const std::string& algorithm,
                                                bool prepared = false) {
  return cached_plan(problem, this_machine(), get_num_threads(), algorithm, prepared);
}

}  // namespace fastconv::bindings
