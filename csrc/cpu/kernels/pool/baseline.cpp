// The kernels of tile.h for baseline: vectors of 16 bytes.
#define FASTCONV_VECTOR_BYTES 16
#include "tile.h"

namespace fastconv {
extern const PoolKernels pool_baseline;
const PoolKernels pool_baseline = {make_pool_kernel<float>(), make_pool_kernel<double>()};
}  // namespace fastconv
