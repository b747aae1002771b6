// The tiles of tile.h for avx2: vectors of 32 bytes, up to 6 rows.
#define FASTCONV_VECTOR_BYTES 32
#include "tile.h"

namespace fastconv {
constexpr int kTileRows = 6;
extern const GemmKernels gemm_avx2;
const GemmKernels gemm_avx2 = {make_kernel<float, kTileRows>(), make_kernel<double, kTileRows>()};
}  // namespace fastconv
