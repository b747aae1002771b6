// THE TABLE of loop nests. Order breaks ties of cost; the last row takes every problem.
#include "algorithms/algorithms.h"

namespace fastconv {

#define FASTCONV_ROW(name, exact) {#name, exact, name##_supports, name##_cost, name##_prepare, name##_pack, name##_run}

std::span<const CpuAlgorithm> algorithms() {
  static constexpr CpuAlgorithm table[] = {
      FASTCONV_ROW(pointwise, true), FASTCONV_ROW(depthwise, true), FASTCONV_ROW(direct, true),
      FASTCONV_ROW(winograd, false), FASTCONV_ROW(im2col, true),    FASTCONV_ROW(reference, true),
  };
  return table;
}

}  // namespace fastconv
