// The plans of the last calls, found by the arguments as they came.
//
// A small convolution takes less time than reading its window, checking it and looking up its plan. All of that follows
// from the window, the shapes, the dtype and the settings: where these are what they were, so is the plan. One entry
// per slot, the slot by the shapes; the GIL guards it.
#pragma once

#include <memory>

#include "run.h"

namespace fastconv::bindings {

struct CallKey {
  py::tuple window;
  DType dtype = DType::float32;
  Shape x, w, bias;
  bool has_bias = false;
  int threads = 0;
  Isa isa = Isa::baseline;
  double serial_cycles = 0;

  CallKey() = default;
  CallKey(const py::tuple& given, const Argument& x_argument, const Argument& w_argument,
          const std::optional<Argument>& b)
      : window(given),
        dtype(x_argument.dtype()),
        x(x_argument.shape()),
        w(w_argument.shape()),
        has_bias(b.has_value()),
        threads(get_num_threads()),
        isa(this_machine().isa),
        serial_cycles(held_serial_cycles()) {
    if (b) bias = b->shape();
  }

  // Windows hold integers and strings only, as conv.py made them.
  bool operator==(const CallKey& other) const {
    return dtype == other.dtype && has_bias == other.has_bias && threads == other.threads && isa == other.isa &&
           serial_cycles == other.serial_cycles && x == other.x && w == other.w && bias == other.bias &&
           PyObject_RichCompareBool(window.ptr(), other.window.ptr(), Py_EQ) == 1;
  }
  size_t slot(size_t slots) const {
    uint64_t value = 0;
    for (const Shape* shape : {&x, &w})
      for (int64_t extent : *shape) value = value * 31 + static_cast<uint64_t>(extent);
    return value % slots;
  }
};

struct RecentPlan {
  CallKey key;
  std::shared_ptr<const ConvPlan> plan;
};

inline RecentPlan& recent_plan(const CallKey& key) {
  constexpr size_t kSlots = 61;                             // a prime: layers of one network differ in powers of two
  static RecentPlan* const plans = new RecentPlan[kSlots];  // never destroyed: Python may be gone by then
  return plans[key.slot(kSlots)];
}

}  // namespace fastconv::bindings
