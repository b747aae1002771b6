// What the Hopper instructions of cuda/kernels/ptx.cuh do, written out on the host: mbarriers, bulk copies by a tensor
// map, and the matrix products of a warpgroup out of shared memory.
//
// Asynchronous copies land when they are issued or, with lazy_copies, when somebody waits for their barrier; products
// are formed when they are issued or, lazily, when their group is waited for. Shared addresses are those of a block
// whose memory begins at 128: as aligned as a kernel may count on.
#pragma once

#include <cstdint>

#include "emulator.h"

namespace emulator {

// What a tensor map holds. Of a tiled map: `extent` elements, `stride` bytes of all axes but the first, boxes of
// `box` elements. Of an im2col map, over (channels, width, height, images): boxes of box[0] channels of box[1] pixels,
// whose positions go from `lower` to extent + `upper` in steps of `step`. Boxes are 128 bytes wide and swizzled.
struct TensorMap {
  const void* base;
  int64_t stride[3];
  int32_t extent[4];
  int32_t box[3];
  int16_t element_bytes, axes;
  int16_t lower[2], upper[2], step[2];
  bool im2col;
};
static_assert(sizeof(TensorMap) <= 128);

uint32_t shared_address(const void* at);

void barrier_init(uint64_t* barrier, int arrivals, Site site);
void barrier_arrive(uint64_t* barrier, int64_t expected_bytes, Site site);
void barrier_wait(uint64_t* barrier, int parity, Site site);

// at: channel and then place of the box; offset: of the tap, for im2col.
void copy_box(void* dst, const TensorMap& map, const int (&at)[4], const int (&offset)[2], uint64_t* barrier,
              Site site);

// c += a b for 64 x n x 16; both operands are K-major behind shared-memory descriptors.
void group_fence(Site site);
void group_multiply(float* c, int n, uint64_t a, uint64_t b, bool bfloat, Site site);
void group_commit(Site site);
void group_wait(int left, Site site);

}  // namespace emulator
