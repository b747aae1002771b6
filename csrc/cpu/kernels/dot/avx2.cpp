// The tiles of tile.h for avx2: vectors of 32 bytes, up to 3 rows by 4 columns.
#define FASTCONV_VECTOR_BYTES 32
#include "tile.h"

namespace fastconv {
using DotRows = MakeIndices<3>::type;
extern const DotKernels dot_avx2;
const DotKernels dot_avx2 = {make_dot_kernel<float, 4>(DotRows{}), make_dot_kernel<double, 4>(DotRows{})};
}  // namespace fastconv
