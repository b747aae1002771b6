// Reads and writes that the emulator counts and checks; on the device each is one plain load or store.
//
// Shared memory is always the launch's dynamic part, cut up by the kernel: one place to size, to fill with NaN in the
// emulator and to see the ends of.
#pragma once

#include "ptx.cuh"

namespace fastconv::cuda {

__device__ __forceinline__ unsigned char* shared_memory() {
#ifdef FASTCONV_EMULATED
  return reinterpret_cast<unsigned char*>(::emulator::shared_memory());
#else
  extern __shared__ __align__(128) unsigned char fastconv_shared[];
  return fastconv_shared;
#endif
}

// T is an element or a vector of them (float4, uint4): its size is the width of the access.
template <class T>
__device__ __forceinline__ T load_global(const T* at FASTCONV_SITE) {
#ifdef FASTCONV_EMULATED
  ::emulator::check_aligned(at, sizeof(T), site);
  ::emulator::record(::emulator::Access::global_load, at, sizeof(T), site);
#endif
  return *at;
}

template <class T>
__device__ __forceinline__ void store_global(T* at, T value FASTCONV_SITE) {
#ifdef FASTCONV_EMULATED
  ::emulator::check_aligned(at, sizeof(T), site);
  ::emulator::record(::emulator::Access::global_store, at, sizeof(T), site);
#endif
  *at = value;
}

template <class T>
__device__ __forceinline__ T load_shared(const T* at FASTCONV_SITE) {
#ifdef FASTCONV_EMULATED
  ::emulator::check_aligned(at, sizeof(T), site);
  ::emulator::record(::emulator::Access::shared_load, at, sizeof(T), site);
#endif
  return *at;
}

template <class T>
__device__ __forceinline__ void store_shared(T* at, T value FASTCONV_SITE) {
#ifdef FASTCONV_EMULATED
  ::emulator::check_aligned(at, sizeof(T), site);
  ::emulator::record(::emulator::Access::shared_store, at, sizeof(T), site);
#endif
  *at = value;
}

// Neighbouring channels that a thread takes: up to 16 bytes in one access.
template <class T, int count>
struct alignas(sizeof(T) * count) Channels {
  T at[count];
};
template <class T, int count>
__device__ __forceinline__ Channels<T, count> load_channels(const T* from FASTCONV_SITE) {
  return load_global(reinterpret_cast<const Channels<T, count>*>(from) FASTCONV_PASS_SITE);
}
template <class T, int count>
__device__ __forceinline__ void store_channels(T* to, const Channels<T, count>& value FASTCONV_SITE) {
  store_global(reinterpret_cast<Channels<T, count>*>(to), value FASTCONV_PASS_SITE);
}

}  // namespace fastconv::cuda
