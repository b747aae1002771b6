// The chains of tile.h for avx2: vectors of 32 bytes, 12 chains.
#define FASTCONV_VECTOR_BYTES 32
#include "tile.h"

namespace fastconv {
extern const PeakKernel peak_avx2;
const PeakKernel peak_avx2 = make_peak<12>();
}  // namespace fastconv
