// The tiles of tile.h for neon: vectors of 16 bytes.
#define FASTCONV_VECTOR_BYTES 16
#include "tile.h"

namespace fastconv {
extern const IndirectKernels indirect_neon;
const IndirectKernels indirect_neon = {make_indirect_kernel<float>(), make_indirect_kernel<double>()};
}  // namespace fastconv
