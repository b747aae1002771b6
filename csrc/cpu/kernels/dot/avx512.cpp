// The tiles of tile.h for avx512: vectors of 64 bytes, up to 4 rows by 6 columns.
#define FASTCONV_VECTOR_BYTES 64
#include "tile.h"

namespace fastconv {
using DotRows = MakeIndices<4>::type;
extern const DotKernels dot_avx512;
const DotKernels dot_avx512 = {make_dot_kernel<float, 6>(DotRows{}), make_dot_kernel<double, 6>(DotRows{})};
}  // namespace fastconv
