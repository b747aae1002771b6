// The tiles of tile.h for avx2: vectors of 32 bytes.
#define FASTCONV_VECTOR_BYTES 32
#include "tile.h"

namespace fastconv {
extern const DepthwiseKernels depthwise_avx2;
const DepthwiseKernels depthwise_avx2 = {make_depthwise_kernel<float>(), make_depthwise_kernel<double>()};
}  // namespace fastconv
