// The curves of tile.h for baseline: vectors of 16 bytes.
#define FASTCONV_VECTOR_BYTES 16
#include "tile.h"

namespace fastconv {
extern const CurveKernels curve_baseline;
const CurveKernels curve_baseline = {make_curve_kernel<float>(), make_curve_kernel<double>()};
}  // namespace fastconv
