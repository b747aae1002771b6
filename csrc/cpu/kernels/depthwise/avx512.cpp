// The tiles of tile.h for avx512: vectors of 64 bytes.
#define FASTCONV_VECTOR_BYTES 64
#include "tile.h"

namespace fastconv {
extern const DepthwiseKernels depthwise_avx512;
const DepthwiseKernels depthwise_avx512 = {make_depthwise_kernel<float>(), make_depthwise_kernel<double>()};
}  // namespace fastconv
