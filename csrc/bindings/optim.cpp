// What an optimiser does to a parameter.
#include "../cpu/adam.h"
#include "arrays.h"
#include "bindings.h"

namespace fastconv::bindings {
namespace {

// `array` is changed: it must be what the engine can write to.
void* changed(const py::array& array, const char* name, const TensorView& like) {
  constexpr int kPlain = int{py::array::c_style} | int{py::detail::npy_api::NPY_ARRAY_ALIGNED_};
  if (dtype_from(array.dtype()) != like.dtype)
    throw InvalidType(
        cat(name, " has dtype ", std::string(py::str(array.dtype())), ": expected ", name_of(like.dtype)));
  if (shape_of(array) != like.shape)
    throw InvalidArgument(cat(name, " has shape ", shape_text(shape_of(array)), ": expected ", shape_text(like.shape)));
  if ((array.flags() & kPlain) != kPlain || !array.writeable())
    throw InvalidArgument(cat(name, " is not C-contiguous, aligned and writeable: expected all three"));
  return const_cast<void*>(array.data());
}

void adam(const py::array& data, const py::object& grad, const py::array& mean, const py::array& square, double beta1,
          double beta2, double decay, double eps, double rate) {
  Argument gradient(grad, "grad");
  if (is_half(gradient.dtype())) throw InvalidType("grad has 16-bit elements: expected float32 or float64");
  const TensorView g = gradient.view();
  const AdamStep step{g.dtype,
                      g.elements(),
                      changed(data, "data", g),
                      changed(mean, "mean", g),
                      changed(square, "square", g),
                      g.data,
                      beta1,
                      beta2,
                      decay,
                      eps,
                      rate};
  without_gil([&] { return run_adam(step, poll_signals); });
}

}  // namespace

void register_optim(py::module_& m) { m.def("adam", &adam); }

}  // namespace fastconv::bindings
