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
// The C functions of a library, which a type of arrays has as `__dlpack_c_exchange_api__`, a capsule named
// "dlpack_exchange_api". They order nothing: what is done belongs on the current stream.
struct ExchangeFunctions {
  uint32_t major, minor;
  const ExchangeFunctions* earlier;       // of another major version
  void *allocate, *lend, *take;           // not used here
  int (*look)(void* array, Tensor* out);  // out is good as long as the array; null where a library has none
  int (*current_stream)(int32_t device_type, int32_t device, void** stream);
};

}  // namespace fastconv::cuda::bindings::dlpack
