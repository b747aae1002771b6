// What both forms of `indirect` hold: the operands of a call and what each thread works in.
#pragma once

#include <vector>

#include "../buffer.h"
#include "../plan.h"

namespace fastconv {

template <class T, class Scratch>
class IndirectOperands {
 public:
  IndirectOperands(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace)
      : plan_(plan),
        p_(plan.problem),
        kernel_(typed<T>(kernels_for(plan.machine.isa).indirect)),
        weights_(static_cast<const T*>(operands.w)),
        packed_(static_cast<const T*>(operands.packed)),
        bias_(static_cast<const T*>(operands.bias)),
        residual_(static_cast<const T*>(operands.residual)),
        curve_(curve_of<T>(plan)) {
    const bool forward = p_.direction == Direction::forward;
    src_ = static_cast<const T*>(forward ? operands.x : operands.y);
    dst_ = static_cast<T*>(forward ? operands.y : operands.x);
    Carver carver(workspace);
    for (int t = 0; t < plan.threads; ++t) {
      Carver thread(carver.take<std::byte>(static_cast<int64_t>(plan.blocking.thread_bytes)));
      scratch_.emplace_back(thread, plan);
      listed_.push_back({});
    }
  }

 protected:
  // What a thread's list of pixels is for.
  struct Listed {
    int64_t gather = -1, rows = 0, cols = 0, count = 0;
  };

  static int64_t dst_pixels(const Gather& g) { return g.d().dst_full * g.h().dst_full * g.w().dst_full; }

  const ConvPlan& plan_;
  const ConvProblem& p_;
  const IndirectKernel<T>& kernel_;
  const T *weights_, *packed_, *bias_, *residual_, *src_;
  const CurveFunction<T> curve_;
  T* dst_;
  std::vector<Scratch> scratch_;
  std::vector<Listed> listed_;
};

template <class Scratch>
size_t scratch_bytes(const ConvPlan& plan) {
  Carver carver(nullptr);
  const Scratch scratch(carver, plan);
  return carver.used();
}

}  // namespace fastconv
