#include "again.h"

#include <algorithm>

#include "memory.h"
#include "window.h"

namespace fastconv::cuda::bindings {
namespace {

// How arrays of one type are read, as python/fastconv/cuda/_libraries.py says.
struct Reader {
  py::object type;
  bool own = false;
  const dlpack::ExchangeFunctions* functions = nullptr;
  py::object records;  // whether gradients are recorded, for types whose arrays may ask for them
};

const dlpack::ExchangeFunctions* functions_of(const py::object& capsule) {
  if (capsule.is_none()) return nullptr;
  const void* const held = PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api");
  if (!held) PyErr_Clear();
  const auto* functions = static_cast<const dlpack::ExchangeFunctions*>(held);
  while (functions && functions->major != 1) functions = functions->earlier;
  return functions && functions->look ? functions : nullptr;
}

// A program has few types of arrays; the oldest gives way where it has many.
Reader reader_of(PyObject* object) {
  static auto* const readers = new std::array<Reader, 16>;
  static size_t oldest = 0;
  PyObject* const type = reinterpret_cast<PyObject*>(Py_TYPE(object));
  for (const Reader& reader : *readers)
    if (reader.type.ptr() == type) return reader;
  const auto said =
      py::module_::import("fastconv.cuda._libraries").attr("reader_of")(py::handle(object)).cast<py::tuple>();
  Reader reader{py::reinterpret_borrow<py::object>(type), said[0].cast<bool>(), functions_of(said[1]), said[2]};
  if (reader.records.is_none()) reader.records = {};
  Reader replaced = std::exchange((*readers)[oldest++ % readers->size()], reader);
  return reader;
}

py::object attribute(PyObject* object, PyObject* name) {
  auto found = py::reinterpret_steal<py::object>(PyObject_GetAttr(object, name));
  if (!found) throw py::error_already_set();
  return found;
}

bool is_gpu(int32_t type) {
#ifdef FASTCONV_EMULATED
  if (type == dlpack::kCpu) return true;  // arrays that pose as being on one
#endif
  return type == dlpack::kCuda || type == dlpack::kCudaManaged;
}

std::optional<Element> element_of(dlpack::Type type) {
  if (type.lanes != 1) return std::nullopt;
  if (type.code == dlpack::kBfloat && type.bits == 16) return Element::bfloat16;
  if (type.code != dlpack::kFloat) return std::nullopt;
  return type.bits == 32   ? std::optional(Element::float32)
         : type.bits == 64 ? std::optional(Element::float64)
         : type.bits == 16 ? std::optional(Element::float16)
                           : std::nullopt;
}

bool is_contiguous(const dlpack::Tensor& t) {
  if (!t.strides || std::find(t.shape, t.shape + t.ndim, 0) != t.shape + t.ndim) return true;
  int64_t expected = 1;
  for (int i = t.ndim; i-- > 0; expected *= t.shape[i])
    if (t.shape[i] != 1 && t.strides[i] != expected) return false;
  return true;
}

}  // namespace

SeenArray::SeenArray(PyObject* object) {
  if (object == Py_None) return;
  const Reader reader = reader_of(object);
  if (!reader.own && !reader.functions) return;
  functions_ = reader.functions;
  if (reader.own ? !read_attributes(object) : !read_by_functions(object)) return;
  static PyObject* const requires_gradient = PyUnicode_InternFromString("requires_grad");
  if (reader.records && attribute(object, requires_gradient).cast<bool>() && reader.records().cast<bool>()) return;
  type_ = Py_TYPE(object);
}

bool SeenArray::read_attributes(PyObject* object) {
  static PyObject* const names[] = {PyUnicode_InternFromString("shape"), PyUnicode_InternFromString("_pointer"),
                                    PyUnicode_InternFromString("_dtype"), PyUnicode_InternFromString("device"),
                                    PyUnicode_InternFromString("_stream")};
  const py::object shape = attribute(object, names[0]), dtype = attribute(object, names[2]);
  const Py_ssize_t axes = PyTuple_GET_SIZE(shape.ptr());
  if (axes > static_cast<Py_ssize_t>(extent_.size())) return false;
  axes_ = static_cast<int>(axes);
  for (int i = 0; i < axes_; ++i) extent_[static_cast<size_t>(i)] = PyLong_AsLongLong(PyTuple_GET_ITEM(shape.ptr(), i));
  data_ = PyLong_AsVoidPtr(attribute(object, names[1]).ptr());
  device_ = {dlpack::kCuda, static_cast<int32_t>(PyLong_AsLong(attribute(object, names[3]).ptr()))};
  made_on_ = reinterpret_cast<uintptr_t>(PyLong_AsVoidPtr(attribute(object, names[4]).ptr()));
  for (const Element e : {Element::float32, Element::float64, Element::float16, Element::bfloat16})
    if (PyUnicode_CompareWithASCIIString(dtype.ptr(), name_of(e)) == 0) return element_ = e, true;
  return false;
}

bool SeenArray::read_by_functions(PyObject* object) {
  dlpack::Tensor tensor{};
  if (functions_->look(object, &tensor) != 0) return PyErr_Clear(), false;
  const std::optional<Element> element = element_of(tensor.dtype);
  if (!element || !is_gpu(tensor.device.type) || tensor.ndim > static_cast<int>(extent_.size()) ||
      !is_contiguous(tensor))
    return false;
  data_ = static_cast<std::byte*>(tensor.data) + tensor.byte_offset;
  if (reinterpret_cast<uintptr_t>(data_) % cuda::size_of(*element)) return false;
  element_ = *element, device_ = tensor.device, axes_ = tensor.ndim;
  std::copy_n(tensor.shape, axes_, extent_.begin());
  return true;
}

SeenArray::Kind SeenArray::kind() const {
  if (!type_) return {};
  return {py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(type_)), shape(), element_, device_.id};
}

bool SeenArray::is(const Kind& kind) const {
  return kind.type.ptr() == reinterpret_cast<PyObject*>(type_) &&
         (!type_ || (kind.element == element_ && kind.device == device_.id &&
                     std::equal(kind.shape.begin(), kind.shape.end(), extent_.begin(), extent_.begin() + axes_)));
}

uint64_t SeenArray::hash(uint64_t value) const {
  for (int i = 0; type_ && i < axes_; ++i) value = value * 31 + static_cast<uint64_t>(extent_[static_cast<size_t>(i)]);
  return value;
}

uintptr_t SeenArray::stream() const {
  if (functions_) {
    void* handle = nullptr;
    if (functions_->current_stream(device_.type, device_.id, &handle) != 0) throw py::error_already_set();
    return reinterpret_cast<uintptr_t>(handle);
  }
  static auto* const current = new py::object(py::module_::import("fastconv.cuda._array").attr("_current_stream"));
  PyObject* value = nullptr;
  if (PyContextVar_Get(current->ptr(), nullptr, &value) != 0) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(value).cast<uintptr_t>();
}

void* data_of(const py::object& made) {
  const SeenArray array(made.ptr());
  if (!array) throw DeviceError("CUDA: an array that its library has just made cannot be read");
  return array.data();
}

void SeenArray::order_before(uintptr_t stream) const {
  if (type_ && !functions_ && made_on_ != stream) order_streams(device_.id, stream, made_on_);
}

KnownConv::KnownConv(std::shared_ptr<const ConvPlan> plan, const py::object& call, const SeenArray& x,
                     const Shape& result, bool packed)
    : plan_(std::move(plan)), result_(call, x, result, plan_->element) {
  // In floats, which every library has.
  if (const size_t bytes = scratch_bytes(*plan_, packed))
    scratch_.emplace(call, x, Shape{static_cast<int64_t>((bytes + 3) / 4)}, Element::float32);
}

py::object KnownConv::run(std::span<const SeenArray> arrays, ConvOperands operands) const {
  if (!is_aligned(operands.x, alignment_of(*plan_))) return {};
  if (!operands.packed && !is_aligned(operands.w, plan_->weight_alignment)) return {};
  const OnDevice on(arrays[0].device());
  const uintptr_t handle = arrays[0].stream();
  for (const SeenArray& array : arrays) array.order_before(handle);
  const py::object result = result_(handle);
  operands.y = data_of(result);
  if (plan_->problem.batch == 0) return result;
  py::object memory;  // given back, in the order of the stream, when everything is queued
  void* scratch = nullptr;
  if (scratch_) memory = (*scratch_)(handle), scratch = data_of(memory);
  Stream stream{reinterpret_cast<cudaStream_t>(handle)};
  queue([&] { return plan_->problem.to_string(); }, plan_->element, plan_->device.arch,
        [&] { run_plan(*plan_, operands, scratch, stream); });
  return result;
}

}  // namespace fastconv::cuda::bindings
