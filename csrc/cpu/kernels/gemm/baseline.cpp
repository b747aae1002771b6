// The tiles of tile.h for baseline: vectors of 16 bytes, up to 6 rows.
#define FASTCONV_VECTOR_BYTES 16
#include "tile.h"

namespace fastconv {
constexpr int kTileRows = 6;
extern const GemmKernels gemm_baseline;
const GemmKernels gemm_baseline = {make_kernel<float, kTileRows>(), make_kernel<double, kTileRows>()};
}  // namespace fastconv
