// The transforms of transforms.h for baseline: vectors of 16 bytes.
#define FASTCONV_VECTOR_BYTES 16
#include "transforms.h"

namespace fastconv {
extern const WinogradKernels winograd_baseline;
const WinogradKernels winograd_baseline = make_winograd();
}  // namespace fastconv
