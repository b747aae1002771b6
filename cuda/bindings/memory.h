// Device memory of our own: taken from the pool of a stream, given back in that stream's order.
#pragma once

#include <utility>

#include "arrays.h"

namespace fastconv::cuda::bindings {

// Makes one stream wait for what another has been given so far.
void order_streams(int device, uintptr_t waiting, uintptr_t behind);

class Memory {
 public:
  Memory() = default;
  Memory(size_t bytes, int device, const Stream& stream) : bytes_(bytes), device_(device), stream_(stream.handle) {
    const OnDevice on(device);
    if (bytes) check(cudaMallocAsync(&data_, bytes, stream_), "allocating memory");
  }
  Memory(Memory&& other) noexcept { swap(other); }
  Memory& operator=(Memory&& other) noexcept {
    swap(other);
    return *this;
  }
  // Errors are not reported: at the end of a process the driver may be gone already.
  ~Memory() {
    if (!data_) return;
    int before = device_;
    cudaGetDevice(&before);
    if (before != device_) cudaSetDevice(device_);
    cudaFreeAsync(data_, stream_);
    if (before != device_) cudaSetDevice(before);
  }

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  int device() const { return device_; }
  cudaStream_t stream() const { return stream_; }

 private:
  void swap(Memory& other) noexcept {
    std::swap(data_, other.data_), std::swap(bytes_, other.bytes_);
    std::swap(device_, other.device_), std::swap(stream_, other.stream_);
  }

  void* data_ = nullptr;
  size_t bytes_ = 0;
  int device_ = 0;
  cudaStream_t stream_ = nullptr;
};

}  // namespace fastconv::cuda::bindings
