// The tiles of tile.h for baseline: vectors of 16 bytes, up to 3 rows by 4 columns.
#define FASTCONV_VECTOR_BYTES 16
#include "tile.h"

namespace fastconv {
using DotRows = MakeIndices<3>::type;
extern const DotKernels dot_baseline;
const DotKernels dot_baseline = {make_dot_kernel<float, 4>(DotRows{}), make_dot_kernel<double, 4>(DotRows{})};
}  // namespace fastconv
