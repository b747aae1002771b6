// Stands in for the toolkit's header of this name when kernels are compiled for the emulator: the words of the
// language and the few run-time functions that cuda/ uses, with host memory as the device's.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "emulator.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};

#define threadIdx (::emulator::thread_index())
#define blockIdx (::emulator::block_index())
#define blockDim (::emulator::block_extent())
#define gridDim (::emulator::grid_extent())

inline void __syncthreads(::emulator::Site site = {}) { ::emulator::block_barrier(site); }
inline void __syncwarp(uint32_t mask = 0xffffffffu, ::emulator::Site site = {}) {
  ::emulator::warp_meet("__syncwarp", mask, nullptr, nullptr, nullptr, site);
}

namespace emulator {
// What a lane brings to a shuffle or a vote, and what it takes away.
template <class T>
struct Shuffle {
  T value;
  int source;
};
template <class T>
void shuffle(uint32_t mask, const void* const in[32], void* const out[32]) {
  for (int to = 0; to < 32; ++to) {
    if (!(mask >> to & 1)) continue;
    const int from = static_cast<const Shuffle<T>*>(in[to])->source;
    // Reading a lane outside the mask gives an undefined value on the device: here, all ones.
    T value;
    std::memset(&value, 0xff, sizeof value);
    if (mask >> from & 1) value = static_cast<const Shuffle<T>*>(in[from])->value;
    *static_cast<T*>(out[to]) = value;
  }
}
template <class T>
T shuffle_from(const char* what, uint32_t mask, T value, int source, Site site) {
  const Shuffle<T> in{value, source};
  T out;
  warp_meet(what, mask, &in, &out, shuffle<T>, site);
  return out;
}
inline void ballot(uint32_t mask, const void* const in[32], void* const out[32]) {
  uint32_t votes = 0;
  for (int from = 0; from < 32; ++from)
    if (mask >> from & 1) votes |= uint32_t{*static_cast<const bool*>(in[from])} << from;
  for (int to = 0; to < 32; ++to)
    if (mask >> to & 1) *static_cast<uint32_t*>(out[to]) = votes;
}
// Lanes of the mask with equal values.
template <class T>
void match(uint32_t mask, const void* const in[32], void* const out[32]) {
  for (int to = 0; to < 32; ++to) {
    if (!(mask >> to & 1)) continue;
    uint32_t same = 0;
    for (int from = 0; from < 32; ++from)
      if (mask >> from & 1)
        same |= uint32_t{*static_cast<const T*>(in[from]) == *static_cast<const T*>(in[to])} << from;
    *static_cast<uint32_t*>(out[to]) = same;
  }
}
}  // namespace emulator

template <class T>
T __shfl_sync(uint32_t mask, T value, int source, int width = 32, ::emulator::Site site = {}) {
  const int base = ::emulator::lane() / width * width;
  return ::emulator::shuffle_from("__shfl_sync", mask, value, base + source % width, site);
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int flip, int width = 32, ::emulator::Site site = {}) {
  const int lane = ::emulator::lane(), other = lane ^ flip;
  const int source = other / width > lane / width ? lane : other;
  return ::emulator::shuffle_from("__shfl_xor_sync", mask, value, source, site);
}
template <class T>
T __shfl_down_sync(uint32_t mask, T value, unsigned delta, int width = 32, ::emulator::Site site = {}) {
  const int lane = ::emulator::lane(), other = lane + static_cast<int>(delta);
  const int source = other / width != lane / width ? lane : other;
  return ::emulator::shuffle_from("__shfl_down_sync", mask, value, source, site);
}
inline uint32_t __ballot_sync(uint32_t mask, bool vote, ::emulator::Site site = {}) {
  uint32_t votes = 0;
  ::emulator::warp_meet("__ballot_sync", mask, &vote, &votes, ::emulator::ballot, site);
  return votes;
}
inline bool __any_sync(uint32_t mask, bool vote, ::emulator::Site site = {}) {
  return __ballot_sync(mask, vote, site) != 0;
}
inline bool __all_sync(uint32_t mask, bool vote, ::emulator::Site site = {}) {
  return __ballot_sync(mask, vote, site) == mask;
}

template <class T>
uint32_t __match_any_sync(uint32_t mask, T value, ::emulator::Site site = {}) {
  uint32_t same = 0;
  ::emulator::warp_meet("__match_any_sync", mask, &value, &same, ::emulator::match<T>, site);
  return same;
}

// One operating-system thread runs all fibers, and none is interrupted: plain arithmetic is atomic here.
template <class T>
T atomicAdd(T* at, T value) {
  const T before = *at;
  *at = before + value;
  return before;
}
template <class T>
T atomicMin(T* at, T value) {
  const T before = *at;
  if (value < before) *at = value;
  return before;
}
template <class T>
T atomicMax(T* at, T value) {
  const T before = *at;
  if (value > before) *at = value;
  return before;
}
inline void __threadfence() {}

template <class T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
  return a < b ? b : a;
}

// ---- the run-time library ----
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorMemoryAllocation = 2 };
using cudaStream_t = void*;
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };

inline const char* cudaGetErrorString(cudaError_t error) { return error == cudaSuccess ? "no error" : "out of memory"; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  // An A100's limits with few multiprocessors, so that small problems also take the ways of large ones; a process may
  // ask for another architecture.
  static const char* const asked = std::getenv("FASTCONV_EMULATED_ARCH");
  static const int arch = asked ? std::atoi(asked) : 80;
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = 4;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = arch / 10;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = arch % 10;
      break;
    default:
      *value = 163 << 10;
  }
  return cudaSuccess;
}
inline cudaError_t cudaMallocAsync(void** data, size_t bytes, cudaStream_t) {
  *data = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (!*data) return cudaErrorMemoryAllocation;
  std::memset(*data, 0xff, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaFreeAsync(void* data, cudaStream_t) { return std::free(data), cudaSuccess; }
inline cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t) {
  return std::memset(data, value, bytes), cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  return std::memcpy(to, from, bytes), cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }
inline cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }

// Work is done when its call returns, so that streams and events have nothing to order.
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone = 0, cudaStreamCaptureStatusActive = 1 };
inline cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  return *status = cudaStreamCaptureStatusNone, cudaSuccess;
}
using cudaEvent_t = void*;
constexpr unsigned cudaEventDisableTiming = 2;
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return *event = nullptr, cudaSuccess; }
inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
inline cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
