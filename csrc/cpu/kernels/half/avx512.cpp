// The conversions of tile.h for avx512: vectors of 64 bytes.
#define FASTCONV_VECTOR_BYTES 64
#include "tile.h"

namespace fastconv {
extern const HalfKernels half_avx512;
const HalfKernels half_avx512 = {make_half_kernel<Float16>(), make_half_kernel<Bfloat16>()};
}  // namespace fastconv
