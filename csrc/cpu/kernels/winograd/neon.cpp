// The transforms of transforms.h for neon: vectors of 16 bytes.
#define FASTCONV_VECTOR_BYTES 16
#include "transforms.h"

namespace fastconv {
extern const WinogradKernels winograd_neon;
const WinogradKernels winograd_neon = make_winograd();
}  // namespace fastconv
