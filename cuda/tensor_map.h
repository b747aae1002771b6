// Tensor maps: what Hopper's bulk copies know of an array. Encoded by the driver, found at run time and not linked to,
// or by the emulator, which refuses what the driver would.
#pragma once

#include "../csrc/core/problem.h"
#include "element.h"
#include "kernels/ptx.cuh"
#include "launch.h"

#ifdef FASTCONV_EMULATED
#include "tensor_map_emulated.h"
#else
#include <cuda.h>
#endif

namespace fastconv::cuda {
namespace tensor_map {

inline int corner_before(const Axis& a) { return static_cast<int>(-a.pad_lo); }
inline int corner_behind(const Axis& a) { return static_cast<int>(a.pad_hi - (a.kernel - 1) * a.dilation); }

#ifndef FASTCONV_EMULATED
template <class Function>
Function* driver_function(const char* name) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
#if CUDART_VERSION >= 12050
  check(cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault, &result), name);
#else
  check(cudaGetDriverEntryPoint(name, &found, cudaEnableDefault, &result), name);
#endif
  if (!found || result != cudaDriverEntryPointSuccess) throw DeviceError(cat("CUDA: the driver has no ", name));
  return reinterpret_cast<Function*>(found);
}

inline CUtensorMapDataType type_of(Element element) {
  return element == Element::float16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
}

inline ptx::TensorMap encoded(const CUtensorMap& map, CUresult result, const char* of) {
  if (result != CUDA_SUCCESS) throw DeviceError(cat("CUDA: encoding the tensor map of ", of, " failed: ", int{result}));
  static_assert(sizeof(ptx::TensorMap) == sizeof map);
  ptx::TensorMap copy;
  std::memcpy(&copy, &map, sizeof map);
  return copy;
}
#endif

}  // namespace tensor_map

// Of x, NHWC, for a forward convolution: boxes of `pixels` neighbouring results' positions and `channels` channels,
// whose rows of 128 bytes are swizzled. x is aligned to 16 bytes, and so are its channels.
inline ptx::TensorMap image_map(const ConvProblem& p, Element element, const void* x, int channels, int pixels) {
  const Axis &h = p.h(), &w = p.w();
  const auto bytes = static_cast<int64_t>(size_of(element)), pixel = p.in_c * bytes;
  const auto wide = [](int64_t n) { return static_cast<uint64_t>(n); };
  const uint64_t extent[] = {wide(p.in_c), wide(w.in), wide(h.in), wide(p.batch)},
                 stride[] = {wide(pixel), wide(pixel * w.in), wide(pixel * w.in * h.in)};
  const int before[] = {tensor_map::corner_before(w), tensor_map::corner_before(h)},
            behind[] = {tensor_map::corner_behind(w), tensor_map::corner_behind(h)};
  const uint32_t step[] = {1, static_cast<uint32_t>(w.stride), static_cast<uint32_t>(h.stride), 1},
                 box[] = {static_cast<uint32_t>(channels), static_cast<uint32_t>(pixels)};
#ifdef FASTCONV_EMULATED
  return ::emulator::encode_im2col(x, static_cast<int>(bytes), extent, stride, before, behind, box[0], box[1], step);
#else
  static const auto encode = tensor_map::driver_function<decltype(cuTensorMapEncodeIm2col)>("cuTensorMapEncodeIm2col");
  CUtensorMap map;
  return tensor_map::encoded(
      map,
      encode(&map, tensor_map::type_of(element), 4, const_cast<void*>(x), extent, stride, before, behind, box[0],
             box[1], step, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
      "x");
#endif
}

// Of weights packed as [tap][out_c][in_c]: boxes of one tap, `rows` of out_c and `channels` of in_c, swizzled alike.
inline ptx::TensorMap filter_map(const ConvProblem& p, Element element, const void* packed, int channels, int rows) {
  const auto bytes = static_cast<int64_t>(size_of(element)), row = p.in_c * bytes;
  const auto wide = [](int64_t n) { return static_cast<uint64_t>(n); };
  const uint64_t extent[] = {wide(p.in_c), wide(p.out_c), wide(p.taps())}, stride[] = {wide(row), wide(row * p.out_c)};
  const uint32_t box[] = {static_cast<uint32_t>(channels), static_cast<uint32_t>(rows), 1}, step[] = {1, 1, 1};
#ifdef FASTCONV_EMULATED
  return ::emulator::encode_tiled(packed, static_cast<int>(bytes), extent, stride, box, step);
#else
  static const auto encode = tensor_map::driver_function<decltype(cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled");
  CUtensorMap map;
  return tensor_map::encoded(map,
                             encode(&map, tensor_map::type_of(element), 3, const_cast<void*>(packed), extent, stride,
                                    box, step, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                    CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
                             "the filters");
#endif
}

}  // namespace fastconv::cuda
