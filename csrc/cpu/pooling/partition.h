// How pooling is divided among threads, and the windows that all its loop nests read.
#pragma once

#include <algorithm>
#include <vector>

#include "../../core/pool_problem.h"
#include "../parallel.h"

namespace fastconv::pooling {

// Elements read or written, about: below kSerial one thread is done before a second one has woken up. An item of
// kItem is short enough to be interrupted after and long enough to hide the clock that is read between two.
constexpr double kSerial = 1 << 17;
constexpr double kItem = 1 << 16;

inline int threads_for(double work) { return work < kSerial ? 1 : get_num_threads(); }

// How many units of `work` each make an item.
inline int64_t units_per_item(int64_t units, double work, int threads) {
  const auto fitting = static_cast<int64_t>(kItem / std::max(work, 1.0));
  return std::max<int64_t>(1, std::min(fitting, (units + threads - 1) / threads));
}

// f(begin, end, thread) over ranges of `units`, each of which costs `work`; thread < threads.
template <class F>
void parallel_ranges(int64_t units, double work, int threads, Interrupt& interrupt, const F& f) {
  const int64_t step = units_per_item(units, work, threads), items = (units + step - 1) / step;
  parallel_for(items, threads, interrupt,
               [&](int64_t item, int thread) { f(item * step, std::min(units, (item + 1) * step), thread); });
}
template <class F>
void parallel_ranges(int64_t units, double work, Interrupt& interrupt, const F& f) {
  parallel_ranges(units, work, threads_for(work * static_cast<double>(units)), interrupt, f);
}

// The windows of each axis, and what each column contributes to an average's divisor.
template <class T>
struct Windows {
  std::vector<Window> axis[3];
  std::vector<T> extents;  // of the width, with `slack` ones behind them

  Windows(const PoolProblem& p, int64_t slack) {
    for (int a = 0; a < 3; ++a) {
      axis[a].reserve(p.axes[a].out);
      for (int64_t o = 0; o < p.axes[a].out; ++o) axis[a].push_back(p.window(a, o));
    }
    if (p.kind != PoolKind::average) return;
    extents.assign(p.axes[2].out + slack, T{1});
    if (p.divisor) return;
    for (int64_t o = 0; o < p.axes[2].out; ++o)
      extents[o] = static_cast<T>(p.count_include_pad ? axis[2][o].extent : axis[2][o].taps);
  }
  // The share that depth and height have in the divisor.
  T share(const PoolProblem& p, const Window& d, const Window& h) const {
    if (p.divisor) return static_cast<T>(p.divisor);
    return static_cast<T>(p.count_include_pad ? d.extent * h.extent : d.taps * h.taps);
  }
};

}  // namespace fastconv::pooling
