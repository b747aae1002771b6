// The chains of tile.h for avx512: vectors of 64 bytes, 24 chains.
#define FASTCONV_VECTOR_BYTES 64
#include "tile.h"

namespace fastconv {
extern const PeakKernel peak_avx512;
const PeakKernel peak_avx512 = make_peak<24>();
}  // namespace fastconv
