// THE TABLE of loop nests. Order breaks ties of cost; the last row takes every problem.
#include "algorithms/algorithms.h"

namespace fastconv {

#define FASTCONV_ROW(name, error) \
  {#name, (error) == 0, name##_supports, name##_cost, name##_prepare, name##_pack, name##_run, error}

std::span<const CpuAlgorithm> algorithms() {
  static constexpr CpuAlgorithm table[] = {
      FASTCONV_ROW(pointwise, 0), FASTCONV_ROW(depthwise, 0),
      FASTCONV_ROW(direct, 0),    FASTCONV_ROW(winograd, kWinogradError),
      FASTCONV_ROW(im2col, 0),    FASTCONV_ROW(reference, 0),
  };
  return table;
}

}  // namespace fastconv
