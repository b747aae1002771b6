// The transforms of transforms.h for avx2: vectors of 32 bytes.
#define FASTCONV_VECTOR_BYTES 32
#include "transforms.h"

namespace fastconv {
extern const WinogradKernels winograd_avx2;
const WinogradKernels winograd_avx2 = make_winograd();
}  // namespace fastconv
