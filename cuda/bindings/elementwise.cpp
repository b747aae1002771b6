// ReLU, softmax and padding of device arrays; python/fastconv/cuda/_engine.py has checked what is not a shape or a
// dtype.
#include "../elementwise.h"

#include "arrays.h"
#include "bindings.h"
#include "window.h"

namespace fastconv::cuda::bindings {
namespace {

int64_t product(const Shape& shape, size_t first, size_t end) {
  int64_t count = 1;
  for (size_t i = first; i < end; ++i) count *= shape[i];
  return count;
}

// Queues work(stream) that makes `result` of an array.
template <class F>
py::object made(const char* op, const Call& call, const Argument& x, const Result& result, const F& work) {
  Stream stream = call.stream;
  queue(cat(op, ' ', shape_text(x.shape())), x.element(), current_device().arch, [&] { work(stream); });
  return result.take();
}

py::object relu(const py::object& call_object, const py::object& input, bool inplace) {
  Argument x(input, "x");
  const auto view = py::reinterpret_borrow<py::tuple>(input);
  if (inplace && !view[4].cast<bool>())
    throw InvalidArgument("x is not C-contiguous and aligned: expected both with inplace=True");
  if (inplace && view[5].cast<bool>())
    throw InvalidArgument("x is read-only: expected a writeable array with inplace=True");
  const Call call(call_object);
  const void* const data = x.data(call);
  const Result result(call, inplace ? input : py::none(), x.shape(), x.element(), {});
  return made("relu", call, x, result, [&](Stream& stream) {
    run_relu(x.element(), product(x.shape(), 0, x.shape().size()), data, result.data(), stream);
  });
}

py::object softmax(const py::object& call_object, const py::object& input, size_t dim, bool logarithm) {
  Argument x(input, "x");
  const Shape& shape = x.shape();
  const Call call(call_object);
  const void* const data = x.data(call);
  const Result result(call, py::none(), shape, x.element(), {});
  return made("softmax", call, x, result, [&](Stream& stream) {
    const int64_t along = shape.empty() ? 1 : shape[dim];
    run_softmax(x.element(), product(shape, 0, dim), along, product(shape, dim + 1, shape.size()), logarithm, data,
                result.data(), stream);
  });
}

Border border_from(const std::string& mode) {
  constexpr std::pair<const char*, Border> kNames[] = {{"constant", Border::constant},
                                                       {"reflect", Border::reflect},
                                                       {"replicate", Border::replicate},
                                                       {"circular", Border::circular}};
  for (const auto& [name, border] : kNames)
    if (mode == name) return border;
  throw InvalidArgument(cat("mode='", mode, "': expected one of constant, reflect, replicate, circular"));
}

// `pads` has (before, after) of every axis.
py::object pad(const py::object& call_object, const py::object& input, const std::vector<std::array<int64_t, 2>>& pads,
               const std::string& mode, double value) {
  Argument x(input, "x");
  const Border border = border_from(mode);
  std::vector<PaddedAxis> axes;
  Shape shape;
  for (size_t i = 0; i < pads.size(); ++i) {
    axes.push_back({x.shape()[i], pads[i][0], pads[i][1]});
    shape.push_back(axes.back().out());
  }
  const Call call(call_object);
  const void* const data = x.data(call);
  const Result result(call, py::none(), shape, x.element(), {});
  return made("pad", call, x, result,
              [&](Stream& stream) { run_pad(x.element(), axes, border, value, data, result.data(), stream); });
}

}  // namespace

void register_elementwise(py::module_& m) {
  m.def("relu", &relu);
  m.def("softmax", &softmax);
  m.def("pad", &pad);
}

}  // namespace fastconv::cuda::bindings
