// Encoding tensor maps as the driver does it (cuTensorMapEncodeIm2col and cuTensorMapEncodeTiled of CUDA's driver API),
// without interleaving, rows swizzled over 128 bytes: what it would refuse is an EmulationError here.
#pragma once

#include <cstdint>

#include "hopper_emulated.h"

namespace emulator {

// extent[4], stride[3] in bytes, corners[2] over width and height, step[4]; as the driver's function takes them.
TensorMap encode_im2col(const void* base, int element_bytes, const uint64_t* extent, const uint64_t* stride,
                        const int* lower, const int* upper, uint32_t channels, uint32_t pixels, const uint32_t* step);
// extent[3], stride[2] in bytes, box[3], step[3].
TensorMap encode_tiled(const void* base, int element_bytes, const uint64_t* extent, const uint64_t* stride,
                       const uint32_t* box, const uint32_t* step);

}  // namespace emulator
