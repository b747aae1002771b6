// Transposing the two inner axes: flattening NHWC arrays in the order of NCHW.
//
// A block turns tiles of 32 x 32 through shared memory, 8 rows of lanes at a time: reads and writes both run along the
// contiguous axis. Rows of the tile are an odd number of words apart, so that a column meets 32 banks.
// grid = (tiles of columns, tiles of rows, images), walked on where there are more.
#include "../kernels/memory.cuh"
#include "../pool.h"

namespace fastconv::cuda {
namespace {

constexpr int kTile = 32, kRows = 8;
template <class T>
constexpr int kStride = sizeof(T) == 2 ? kTile + 2 : kTile + 1;

template <class T>
__global__ void __launch_bounds__(kTile* kRows)
    transpose(const T* src, T* dst, int64_t images, int64_t rows, int64_t columns) {
  auto* const tile = reinterpret_cast<T*>(shared_memory());
  const int lane = static_cast<int>(threadIdx.x), line = static_cast<int>(threadIdx.y);
  const int64_t first_column = int64_t{blockIdx.x} * kTile;
  for (int64_t image = blockIdx.z; image < images; image += gridDim.z)
    for (int64_t first_row = int64_t{blockIdx.y} * kTile; first_row < rows; first_row += int64_t{gridDim.y} * kTile) {
#pragma unroll
      for (int i = line; i < kTile; i += kRows)
        if (first_row + i < rows && first_column + lane < columns)
          store_shared(tile + i * kStride<T> + lane,
                       load_global(src + (image * rows + first_row + i) * columns + first_column + lane));
      __syncthreads();
#pragma unroll
      for (int i = line; i < kTile; i += kRows)
        if (first_column + i < columns && first_row + lane < rows)
          store_global(dst + (image * columns + first_column + i) * rows + first_row + lane,
                       load_shared(tile + lane * kStride<T> + i));
      __syncthreads();  // the tile is filled again
    }
}

template <class T>
void launch_transpose(int64_t images, int64_t rows, int64_t columns, const void* src, void* dst, Stream& stream) {
  const auto tiles = [](int64_t extent) { return (extent + kTile - 1) / kTile; };
  if (tiles(columns) > INT32_MAX) throw Unsupported("flattening on CUDA: more than 2^36 columns");
  const dim3 grid(static_cast<unsigned>(tiles(columns)),
                  static_cast<unsigned>(std::min<int64_t>(tiles(rows), kMostBlocksYZ)),
                  static_cast<unsigned>(std::min<int64_t>(images, kMostBlocksYZ)));
  launch("transpose", transpose<T>, grid, dim3(kTile, kRows), kTile * kStride<T> * sizeof(T), stream,
         static_cast<const T*>(src), static_cast<T*>(dst), images, rows, columns);
}

}  // namespace

void run_transpose(Element element, int64_t images, int64_t rows, int64_t columns, const void* src, void* dst,
                   Stream& stream) {
  switch (size_of(element)) {  // only bits move
    case 8:
      return launch_transpose<uint64_t>(images, rows, columns, src, dst, stream);
    case 4:
      return launch_transpose<uint32_t>(images, rows, columns, src, dst, stream);
    default:
      return launch_transpose<uint16_t>(images, rows, columns, src, dst, stream);
  }
}

}  // namespace fastconv::cuda
