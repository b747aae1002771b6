// Memory and DLPack capsules, seen from Python; python/fastconv/cuda/_array.py makes arrays of them.
#include "memory.h"

#include <pybind11/stl.h>

#include "bindings.h"
#include "dlpack.h"

namespace fastconv::cuda::bindings {
namespace {

struct Named {
  const char* name;
  dlpack::Type type;
};
constexpr Named kTypes[] = {
    {"float32", {dlpack::kFloat, 32, 1}},   {"float64", {dlpack::kFloat, 64, 1}}, {"float16", {dlpack::kFloat, 16, 1}},
    {"bfloat16", {dlpack::kBfloat, 16, 1}}, {"int64", {dlpack::kInt, 64, 1}},     {"int32", {dlpack::kInt, 32, 1}},
    {"int16", {dlpack::kInt, 16, 1}},       {"int8", {dlpack::kInt, 8, 1}},       {"uint8", {dlpack::kUInt, 8, 1}},
    {"uint16", {dlpack::kUInt, 16, 1}},     {"uint32", {dlpack::kUInt, 32, 1}},   {"uint64", {dlpack::kUInt, 64, 1}},
};

std::string name_of(dlpack::Type type) {
  for (const Named& row : kTypes)
    if (row.type.code == type.code && row.type.bits == type.bits && type.lanes == 1) return row.name;
  return cat("DLPack type ", int{type.code}, " of ", int{type.bits}, " bits");
}

// What somebody else's capsule holds, kept until this object goes.
class Borrowed {
 public:
  explicit Borrowed(const py::object& capsule) {
    PyObject* const object = capsule.ptr();
    if (PyCapsule_IsValid(object, "dltensor_versioned")) {
      versioned_ = static_cast<dlpack::Versioned*>(PyCapsule_GetPointer(object, "dltensor_versioned"));
      if (versioned_->major != 1) {
        const uint32_t major = versioned_->major;
        versioned_ = nullptr;  // its layout is not known, so it stays with the capsule
        throw InvalidType(cat("a DLPack capsule of version ", major, ": expected version 1"));
      }
      PyCapsule_SetName(object, "used_dltensor_versioned");
      tensor_ = &versioned_->tensor, read_only_ = versioned_->flags & dlpack::kReadOnly;
    } else if (PyCapsule_IsValid(object, "dltensor")) {
      managed_ = static_cast<dlpack::Managed*>(PyCapsule_GetPointer(object, "dltensor"));
      PyCapsule_SetName(object, "used_dltensor");
      tensor_ = &managed_->tensor;
    } else {
      throw InvalidType(cat("__dlpack__ returned ", Py_TYPE(object)->tp_name, ": expected an unused DLPack capsule"));
    }
  }
  Borrowed(const Borrowed&) = delete;
  ~Borrowed() {
    if (versioned_ && versioned_->deleter) versioned_->deleter(versioned_);
    if (managed_ && managed_->deleter) managed_->deleter(managed_);
  }

  Shape shape() const { return Shape(tensor_->shape, tensor_->shape + tensor_->ndim); }
  std::optional<Shape> strides() const {
    if (!tensor_->strides) return std::nullopt;
    return Shape(tensor_->strides, tensor_->strides + tensor_->ndim);
  }
  uintptr_t pointer() const { return reinterpret_cast<uintptr_t>(tensor_->data) + tensor_->byte_offset; }
  std::string dtype() const { return name_of(tensor_->dtype); }
  std::pair<int, int> device() const { return {tensor_->device.type, tensor_->device.id}; }
  bool read_only() const { return read_only_; }

 private:
  dlpack::Versioned* versioned_ = nullptr;
  dlpack::Managed* managed_ = nullptr;
  const dlpack::Tensor* tensor_ = nullptr;
  bool read_only_ = false;
};

// Keeps the Python object that owns the memory, and the shape that the capsule points to.
struct Lent {
  py::object owner;
  Shape shape, strides;
};

template <class Holder>
void give_back(Holder* holder) {
  const py::gil_scoped_acquire gil;
  delete static_cast<Lent*>(holder->context);
  delete holder;
}

template <class Holder>
void forget(PyObject* capsule) {
  // A capsule that a consumer has taken has another name, and its memory is the consumer's to give back.
  const char* const name = PyCapsule_GetName(capsule);
  if (std::string(name).starts_with("used")) return;
  auto* const holder = static_cast<Holder*>(PyCapsule_GetPointer(capsule, name));
  holder->deleter(holder);
}

template <class Holder>
py::object make_capsule(std::unique_ptr<Holder> holder, const char* name) {
  PyObject* const capsule = PyCapsule_New(holder.get(), name, forget<Holder>);
  if (!capsule) throw py::error_already_set();
  holder.release();
  return py::reinterpret_steal<py::object>(capsule);
}

py::object to_capsule(const py::object& owner, uintptr_t pointer, const Shape& shape, const std::string& dtype,
                      int device_type, int device, bool versioned) {
  auto lent = std::make_unique<Lent>(Lent{owner, shape, Shape(shape.size(), 1)});
  for (size_t i = shape.size(); i > 1; --i) lent->strides[i - 2] = lent->strides[i - 1] * shape[i - 1];
  dlpack::Tensor tensor{};
  tensor.data = reinterpret_cast<void*>(pointer);
  tensor.device = {device_type, device};
  tensor.ndim = static_cast<int32_t>(shape.size());
  tensor.shape = lent->shape.data(), tensor.strides = lent->strides.data();
  for (const Named& row : kTypes)
    if (dtype == row.name) tensor.dtype = row.type;
  if (versioned) {
    auto holder = std::make_unique<dlpack::Versioned>();
    *holder = {1, 0, lent.release(), give_back<dlpack::Versioned>, 0, tensor};
    return make_capsule(std::move(holder), "dltensor_versioned");
  }
  auto holder = std::make_unique<dlpack::Managed>();
  *holder = {tensor, lent.release(), give_back<dlpack::Managed>};
  return make_capsule(std::move(holder), "dltensor");
}

Stream stream_from(uintptr_t handle) { return {reinterpret_cast<cudaStream_t>(handle)}; }

void copy(int device, uintptr_t stream, void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const py::gil_scoped_release release;
  const OnDevice on(device);
  const auto handle = reinterpret_cast<cudaStream_t>(stream);
  check(cudaMemcpyAsync(to, from, bytes, kind, handle), "copying");
  check(cudaStreamSynchronize(handle), "copying");
}

void* contiguous(const py::buffer_info& info, size_t bytes) {
  if (static_cast<size_t>(info.size * info.itemsize) != bytes)
    throw InvalidArgument(cat("a buffer of ", info.size * info.itemsize, " bytes: expected ", bytes));
  return info.ptr;
}

}  // namespace

void order_streams(int device, uintptr_t waiting, uintptr_t behind) {
  const OnDevice on(device);
  cudaEvent_t event;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
  const cudaError_t recorded = cudaEventRecord(event, reinterpret_cast<cudaStream_t>(behind));
  const cudaError_t waits =
      recorded == cudaSuccess ? cudaStreamWaitEvent(reinterpret_cast<cudaStream_t>(waiting), event, 0) : recorded;
  cudaEventDestroy(event);
  check(waits, "ordering two streams");
}

void register_memory(py::module_& m) {
  py::class_<Memory>(m, "Memory", py::module_local())
      .def(py::init(
          [](size_t bytes, int device, uintptr_t stream) { return Memory(bytes, device, stream_from(stream)); }))
      .def_property_readonly("pointer", [](const Memory& x) { return reinterpret_cast<uintptr_t>(x.data()); })
      .def_property_readonly("bytes", &Memory::bytes)
      .def_property_readonly("device", &Memory::device);
  py::class_<Borrowed>(m, "Borrowed", py::module_local())
      .def(py::init<const py::object&>())
      .def_property_readonly("shape", &Borrowed::shape)
      .def_property_readonly("strides", &Borrowed::strides)
      .def_property_readonly("pointer", &Borrowed::pointer)
      .def_property_readonly("dtype", &Borrowed::dtype)
      .def_property_readonly("device", &Borrowed::device)
      .def_property_readonly("read_only", &Borrowed::read_only);
  m.def("to_capsule", &to_capsule);
  m.def("wait", &order_streams);
  // Both wait for the copy: the buffer is the caller's again when they return.
  m.def("upload", [](const py::buffer& from, uintptr_t to, size_t bytes, int device, uintptr_t stream) {
    const py::buffer_info info = from.request();
    copy(device, stream, reinterpret_cast<void*>(to), contiguous(info, bytes), bytes, cudaMemcpyHostToDevice);
  });
  m.def("download", [](const py::buffer& to, uintptr_t from, size_t bytes, int device, uintptr_t stream) {
    const py::buffer_info info = to.request(true);
    copy(device, stream, contiguous(info, bytes), reinterpret_cast<const void*>(from), bytes, cudaMemcpyDeviceToHost);
  });
}

}  // namespace fastconv::cuda::bindings
