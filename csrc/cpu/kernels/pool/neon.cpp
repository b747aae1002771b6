// The kernels of tile.h for neon: vectors of 16 bytes.
#define FASTCONV_VECTOR_BYTES 16
#include "tile.h"

namespace fastconv {
extern const PoolKernels pool_neon;
const PoolKernels pool_neon = {make_pool_kernel<float>(), make_pool_kernel<double>()};
}  // namespace fastconv
