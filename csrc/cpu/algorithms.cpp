// THE TABLE of loop nests. Order breaks ties of cost; the last row takes every problem.
#include "algorithms/algorithms.h"

namespace fastconv {

#define FASTCONV_ROW(name, error, pack_cost) \
  {#name, (error) == 0, name##_supports, name##_cost, name##_prepare, name##_pack, name##_run, error, pack_cost}

std::span<const CpuAlgorithm> algorithms() {
  static constexpr CpuAlgorithm table[] = {
      FASTCONV_ROW(pointwise, 0, nullptr),
      FASTCONV_ROW(depthwise, 0, nullptr),
      FASTCONV_ROW(indirect, 0, nullptr),
      FASTCONV_ROW(direct, 0, nullptr),
      FASTCONV_ROW(winograd, kWinogradError, winograd_pack_cost),
      FASTCONV_ROW(winograd_batch, kWinogradError, winograd_batch_pack_cost),
      FASTCONV_ROW(im2col, 0, nullptr),
      FASTCONV_ROW(reference, 0, nullptr),
  };
  return table;
}

}  // namespace fastconv
