// The tiles of tile.h for avx2: vectors of 32 bytes.
#define FASTCONV_VECTOR_BYTES 32
#include "tile.h"

namespace fastconv {
extern const IndirectKernels indirect_avx2;
const IndirectKernels indirect_avx2 = {make_indirect_kernel<float>(), make_indirect_kernel<double>()};
}  // namespace fastconv
