// The movers of panels.h for avx512: vectors of 64 bytes.
#define FASTCONV_VECTOR_BYTES 64
#include "panels.h"

namespace fastconv {
extern const PackKernels pack_avx512;
const PackKernels pack_avx512 = {make_pack_kernel<float>(), make_pack_kernel<double>()};
}  // namespace fastconv
