// The chains of tile.h for neon: vectors of 16 bytes, 24 chains.
#define FASTCONV_VECTOR_BYTES 16
#include "tile.h"

namespace fastconv {
extern const PeakKernel peak_neon;
const PeakKernel peak_neon = make_peak<24>();
}  // namespace fastconv
