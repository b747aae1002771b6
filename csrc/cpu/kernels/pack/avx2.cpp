// The movers of panels.h for avx2: vectors of 32 bytes.
#define FASTCONV_VECTOR_BYTES 32
#include "panels.h"

namespace fastconv {
extern const PackKernels pack_avx2;
const PackKernels pack_avx2 = {make_pack_kernel<float>(), make_pack_kernel<double>()};
}  // namespace fastconv
