// The conversions of tile.h for avx2: vectors of 32 bytes.
#define FASTCONV_VECTOR_BYTES 32
#include "tile.h"

namespace fastconv {
extern const HalfKernels half_avx2;
const HalfKernels half_avx2 = {make_half_kernel<Float16>(), make_half_kernel<Bfloat16>()};
}  // namespace fastconv
