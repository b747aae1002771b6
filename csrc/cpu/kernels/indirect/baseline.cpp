// The tiles of tile.h for baseline: vectors of 16 bytes.
#define FASTCONV_VECTOR_BYTES 16
#include "tile.h"

namespace fastconv {
extern const IndirectKernels indirect_baseline;
const IndirectKernels indirect_baseline = {make_indirect_kernel<float>(), make_indirect_kernel<double>()};
}  // namespace fastconv
