// The tiles of tile.h for avx512: vectors of 64 bytes.
#define FASTCONV_VECTOR_BYTES 64
#include "tile.h"

namespace fastconv {
extern const IndirectKernels indirect_avx512;
const IndirectKernels indirect_avx512 = {make_indirect_kernel<float>(), make_indirect_kernel<double>()};
}  // namespace fastconv
