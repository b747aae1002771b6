// The movers of panels.h for neon: vectors of 16 bytes.
#define FASTCONV_VECTOR_BYTES 16
#include "panels.h"

namespace fastconv {
extern const PackKernels pack_neon;
const PackKernels pack_neon = {make_pack_kernel<float>(), make_pack_kernel<double>()};
}  // namespace fastconv
