// The tiles of tile.h for baseline: vectors of 16 bytes.
#define FASTCONV_VECTOR_BYTES 16
#include "tile.h"

namespace fastconv {
extern const DepthwiseKernels depthwise_baseline;
const DepthwiseKernels depthwise_baseline = {make_depthwise_kernel<float>(), make_depthwise_kernel<double>()};
}  // namespace fastconv
