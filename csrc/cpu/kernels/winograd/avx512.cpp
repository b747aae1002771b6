// The transforms of transforms.h for avx512: vectors of 64 bytes.
#define FASTCONV_VECTOR_BYTES 64
#include "transforms.h"

namespace fastconv {
extern const WinogradKernels winograd_avx512;
const WinogradKernels winograd_avx512 = make_winograd();
}  // namespace fastconv
