// The kernels of tile.h for avx2: vectors of 32 bytes.
#define FASTCONV_VECTOR_BYTES 32
#include "tile.h"

namespace fastconv {
extern const PoolKernels pool_avx2;
const PoolKernels pool_avx2 = {make_pool_kernel<float>(), make_pool_kernel<double>()};
}  // namespace fastconv
