// The tiles of tile.h for avx512: vectors of 64 bytes, up to 14 rows.
#define FASTCONV_VECTOR_BYTES 64
#include "tile.h"

namespace fastconv {
constexpr int kTileRows = 14;
extern const GemmKernels gemm_avx512;
const GemmKernels gemm_avx512 = {make_kernel<float, kTileRows>(), make_kernel<double, kTileRows>()};
}  // namespace fastconv
