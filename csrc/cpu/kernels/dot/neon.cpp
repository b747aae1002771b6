// The tiles of tile.h for neon: vectors of 16 bytes, up to 4 rows by 6 columns.
#define FASTCONV_VECTOR_BYTES 16
#include "tile.h"

namespace fastconv {
using DotRows = MakeIndices<4>::type;
extern const DotKernels dot_neon;
const DotKernels dot_neon = {make_dot_kernel<float, 6>(DotRows{}), make_dot_kernel<double, 6>(DotRows{})};
}  // namespace fastconv
