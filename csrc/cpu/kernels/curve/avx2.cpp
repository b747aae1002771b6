// The curves of tile.h for avx2: vectors of 32 bytes.
#define FASTCONV_VECTOR_BYTES 32
#include "tile.h"

namespace fastconv {
extern const CurveKernels curve_avx2;
const CurveKernels curve_avx2 = {make_curve_kernel<float>(), make_curve_kernel<double>()};
}  // namespace fastconv
