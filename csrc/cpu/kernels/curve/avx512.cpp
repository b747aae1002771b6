// The curves of tile.h for avx512: vectors of 64 bytes.
#define FASTCONV_VECTOR_BYTES 64
#include "tile.h"

namespace fastconv {
extern const CurveKernels curve_avx512;
const CurveKernels curve_avx512 = {make_curve_kernel<float>(), make_curve_kernel<double>()};
}  // namespace fastconv
