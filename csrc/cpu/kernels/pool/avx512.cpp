// The kernels of tile.h for avx512: vectors of 64 bytes.
#define FASTCONV_VECTOR_BYTES 64
#include "tile.h"

namespace fastconv {
extern const PoolKernels pool_avx512;
const PoolKernels pool_avx512 = {make_pool_kernel<float>(), make_pool_kernel<double>()};
}  // namespace fastconv
