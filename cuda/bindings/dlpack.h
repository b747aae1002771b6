// What DLPack's capsules hold, as its specification gives it (dmlc.github.io/dlpack, version 1): the parts used here.
#pragma once

#include <cstdint>

namespace fastconv::cuda::bindings::dlpack {

constexpr int32_t kCpu = 1, kCuda = 2, kCudaManaged = 13;
constexpr uint8_t kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4;
constexpr uint64_t kReadOnly = 1;  // a bit of flags

struct Device {
  int32_t type, id;
};
struct Type {
  uint8_t code, bits;
  uint16_t lanes;
};
struct Tensor {
  void* data;
  Device device;
  int32_t ndim;
  Type dtype;
  int64_t *shape, *strides;  // strides are in elements; null for a C-contiguous array before version 1.2
  uint64_t byte_offset;
};
struct Managed {  // in a capsule named "dltensor"
  Tensor tensor;
  void* context;
  void (*deleter)(Managed*);
};
struct Versioned {  // in a capsule named "dltensor_versioned"
  uint32_t major, minor;
  void* context;
  void (*deleter)(Versioned*);
  uint64_t flags;
  Tensor tensor;
};

}  // namespace fastconv::cuda::bindings::dlpack
