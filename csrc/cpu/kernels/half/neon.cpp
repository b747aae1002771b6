// The conversions of tile.h for neon: vectors of 16 bytes.
#define FASTCONV_VECTOR_BYTES 16
#include "tile.h"

namespace fastconv {
extern const HalfKernels half_neon;
const HalfKernels half_neon = {make_half_kernel<Float16>(), make_half_kernel<Bfloat16>()};
}  // namespace fastconv
