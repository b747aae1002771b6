// Every launch goes through launch(): cudaLaunchKernel on the device, emulator::run_grid in the tests.
#pragma once

#include <cuda_runtime.h>

#include <cstdlib>
#include <string>
#include <tuple>

#include "../csrc/core/error.h"

namespace fastconv::cuda {

struct DeviceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What an algorithm needs from outside: the caller's stream.
struct Stream {
  cudaStream_t handle = nullptr;
  bool load_only = false;  // launches load their kernels and start nothing: what is to be launched later is there
};

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
#ifndef FASTCONV_EMULATED
  // After these every later call of the process fails with the same error, whatever it does.
  const bool lost = error == cudaErrorIllegalAddress || error == cudaErrorMisalignedAddress ||
                    error == cudaErrorLaunchFailure || error == cudaErrorIllegalInstruction;
  const char* const more = lost ? " (an earlier call may have caused it, which FASTCONV_CUDA_SYNC=1 shows; "
                                  "the process cannot use the device any more)"
                           : error == cudaErrorNoKernelImageForDevice
                               ? " (fastconv.show_config() has the architectures that this build is for)"
                               : "";
  throw DeviceError(cat("CUDA: ", what, " failed: ", cudaGetErrorString(error), more));
#else
  throw DeviceError(cat("CUDA: ", what, " failed: ", cudaGetErrorString(error)));
#endif
}

// FASTCONV_CUDA_SYNC=1: every launch waits for its kernel, so that an error is that of the launch that it names.
inline bool waits_for_kernels() {
  static const bool waits = [] {
    const char* const text = std::getenv("FASTCONV_CUDA_SYNC");
    return text && *text && std::string(text) != "0";
  }();
  return waits;
}

// Without opting in, a block may have this much shared memory on every architecture; with it, this much on all of 8.0
// and newer.
constexpr size_t kPlainShared = 48 << 10, kMostShared = 99 << 10;
constexpr unsigned kMostBlocksX = 0x7fffffff, kMostBlocksYZ = 65535;  // of a grid's first extent and of the others

// Whether an array can be read and written 16 bytes at a time. Views of a caller's larger array often cannot.
inline bool aligned_16(const void* array) { return reinterpret_cast<uintptr_t>(array) % 16 == 0; }

inline void fill_bytes(void* array, int value, size_t bytes, const Stream& stream) {
  if (bytes && !stream.load_only) check(cudaMemsetAsync(array, value, bytes, stream.handle), "filling memory");
}

template <class... Params, class... Args>
void launch(const char* name, void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared, const Stream& stream,
            const Args&... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (grid.x > kMostBlocksX || grid.y > kMostBlocksYZ || grid.z > kMostBlocksYZ || block.x * block.y * block.z > 1024 ||
      shared > kMostShared)
    throw DeviceError(cat("CUDA: ", name, ": a grid of ", grid.x, " x ", grid.y, " x ", grid.z, " blocks of ",
                          block.x * block.y * block.z, " threads with ", shared,
                          " bytes of shared memory is beyond the limits of the device"));
  std::tuple<Params...> values(args...);
#ifdef FASTCONV_EMULATED
  if (stream.load_only) return;
  emulator::run_grid(name, {grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, shared,
                     [&] { std::apply(kernel, values); });
#else
  const auto* const function = reinterpret_cast<const void*>(kernel);
  if (shared > kPlainShared)
    check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)), name);
  if (stream.load_only) {
    cudaFuncAttributes attributes;
    return check(cudaFuncGetAttributes(&attributes, function), name);
  }
  std::apply(
      [&](auto&... value) {
        void* pointers[] = {const_cast<void*>(static_cast<const void*>(&value))...};
        check(cudaLaunchKernel(function, grid, block, pointers, shared, stream.handle), name);
      },
      values);
  if (waits_for_kernels()) check(cudaStreamSynchronize(stream.handle), name);
#endif
}

}  // namespace fastconv::cuda
