// The tiles of tile.h for neon: vectors of 16 bytes, up to 12 rows.
#define FASTCONV_VECTOR_BYTES 16
#include "tile.h"

namespace fastconv {
constexpr int kTileRows = 12;
extern const GemmKernels gemm_neon;
const GemmKernels gemm_neon = {make_kernel<float, kTileRows>(), make_kernel<double, kTileRows>()};
}  // namespace fastconv
