#include "tensor_map_emulated.h"

#include <string>

namespace emulator {
namespace {

void expect(bool holds, const std::string& what) {
  if (!holds) throw EmulationError("a tensor map: " + what);
}

void check_array(const void* base, int axes, const uint64_t* extent, const uint64_t* stride, const uint32_t* step,
                 uint32_t row_bytes) {
  expect(reinterpret_cast<uintptr_t>(base) % 16 == 0, "the array is not aligned to 16 bytes");
  for (int i = 0; i < axes; ++i) {
    const std::string axis = " of axis " + std::to_string(i);
    expect(extent[i] >= 1 && extent[i] <= uint64_t{1} << 32, "the extent" + axis + " is not from 1 to 2^32");
    expect(step[i] >= 1 && step[i] <= 8, "the step" + axis + " is not from 1 to 8");
    if (i == axes - 1) break;
    expect(stride[i] % 16 == 0, "the stride" + axis + " is no multiple of 16 bytes");
    expect(stride[i] < uint64_t{1} << 40, "the stride" + axis + " is 2^40 bytes or more");
    expect(i == 0 || stride[i] % stride[i - 1] == 0, "the stride" + axis + " is no multiple of that before");
  }
  expect(row_bytes % 16 == 0, "a box's row is no multiple of 16 bytes");
  expect(row_bytes <= 128, "a box's row is longer than the swizzle of 128 bytes");
}

}  // namespace

TensorMap encode_im2col(const void* base, int element_bytes, const uint64_t* extent, const uint64_t* stride,
                        const int* lower, const int* upper, uint32_t channels, uint32_t pixels, const uint32_t* step) {
  check_array(base, 4, extent, stride, step, channels * static_cast<uint32_t>(element_bytes));
  expect(channels >= 1 && channels <= 256, "channels of a pixel are not from 1 to 256");
  expect(pixels >= 1 && pixels <= 1024, "pixels of a column are not from 1 to 1024");
  for (int i = 0; i < 2; ++i) {
    for (const int corner : {lower[i], upper[i]})
      expect(corner >= -128 && corner <= 127, "a corner of the bounding box is not from -128 to 127");
    expect(static_cast<int64_t>(extent[i + 1]) + upper[i] > lower[i], "the bounding box is empty");
  }
  TensorMap map{};
  map.base = base, map.element_bytes = static_cast<int16_t>(element_bytes), map.axes = 4, map.im2col = true;
  for (int i = 0; i < 4; ++i) map.extent[i] = static_cast<int32_t>(extent[i]);
  for (int i = 0; i < 3; ++i) map.stride[i] = static_cast<int64_t>(stride[i]);
  map.box[0] = static_cast<int32_t>(channels), map.box[1] = static_cast<int32_t>(pixels), map.box[2] = 1;
  for (int i = 0; i < 2; ++i) {
    map.lower[i] = static_cast<int16_t>(lower[i]), map.upper[i] = static_cast<int16_t>(upper[i]);
    map.step[i] = static_cast<int16_t>(step[i + 1]);
  }
  return map;
}

TensorMap encode_tiled(const void* base, int element_bytes, const uint64_t* extent, const uint64_t* stride,
                       const uint32_t* box, const uint32_t* step) {
  check_array(base, 3, extent, stride, step, box[0] * static_cast<uint32_t>(element_bytes));
  TensorMap map{};
  map.base = base, map.element_bytes = static_cast<int16_t>(element_bytes), map.axes = 3;
  for (int i = 0; i < 3; ++i) {
    expect(box[i] >= 1 && box[i] <= 256, "the box's extent of axis " + std::to_string(i) + " is not from 1 to 256");
    expect(step[i] == 1, "steps of a tiled map are 1 in this model");
    map.extent[i] = static_cast<int32_t>(extent[i]), map.box[i] = static_cast<int32_t>(box[i]);
  }
  map.extent[3] = 1;
  for (int i = 0; i < 2; ++i) map.stride[i] = static_cast<int64_t>(stride[i]);
  return map;
}

}  // namespace emulator
