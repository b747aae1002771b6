// The chains of tile.h for baseline: vectors of 16 bytes, 12 chains.
#define FASTCONV_VECTOR_BYTES 16
#include "tile.h"

namespace fastconv {
extern const PeakKernel peak_baseline;
const PeakKernel peak_baseline = make_peak<12>();
}  // namespace fastconv
