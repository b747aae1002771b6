// The movers of panels.h for baseline: vectors of 16 bytes.
#define FASTCONV_VECTOR_BYTES 16
#include "panels.h"

namespace fastconv {
extern const PackKernels pack_baseline;
const PackKernels pack_baseline = {make_pack_kernel<float>(), make_pack_kernel<double>()};
}  // namespace fastconv
