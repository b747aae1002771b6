#include "adam.h"

#include <cmath>

namespace fastconv {
namespace {

// Elements of an item: fewer are not worth waking a thread.
constexpr int64_t kItem = 16384;

template <class T>
void update(const AdamStep& step, int64_t begin, int64_t end) {
  T *const data = static_cast<T*>(step.data), *const mean = static_cast<T*>(step.mean),
           *const square = static_cast<T*>(step.square);
  const T* const grad = static_cast<const T*>(step.grad);
  const T beta1 = static_cast<T>(step.beta1), beta2 = static_cast<T>(step.beta2), decay = static_cast<T>(step.decay),
          eps = static_cast<T>(step.eps), rate = static_cast<T>(step.rate);
  const bool decays = decay != 0;
  for (int64_t i = begin; i < end; ++i) {
    const T g = decays ? grad[i] + decay * data[i] : grad[i];
    const T m = mean[i] * beta1 + g, s = square[i] * beta2 + g * g;
    mean[i] = m;
    square[i] = s;
    data[i] -= m / (std::sqrt(s) + eps) * rate;
  }
}

}  // namespace

bool run_adam(const AdamStep& step, Interrupt::Poll poll) {
  Interrupt interrupt(poll);
  parallel_for((step.count + kItem - 1) / kItem, get_num_threads(), interrupt, [&](int64_t item, int) {
    const int64_t begin = item * kItem, end = std::min(step.count, begin + kItem);
    visit_dtype(step.dtype, [&](auto zero) { update<decltype(zero)>(step, begin, end); });
  });
  return !interrupt.stopped();
}

}  // namespace fastconv
