// THE TABLE of loop nests on a GPU. Order breaks ties of cost; the last row takes every problem.
#include "algorithms/algorithms.h"

namespace fastconv::cuda {

#define FASTCONV_ROW(name, exact) {#name, exact, name##_supports, name##_cost, name##_prepare, name##_pack, name##_run}

std::span<const CudaAlgorithm> algorithms() {
  static constexpr CudaAlgorithm table[] = {
      FASTCONV_ROW(depthwise, true), FASTCONV_ROW(direct, true), FASTCONV_ROW(im2col_wgmma, true),
      FASTCONV_ROW(pointwise, true), FASTCONV_ROW(im2col, true), FASTCONV_ROW(reference, true),
  };
  return table;
}

}  // namespace fastconv::cuda
