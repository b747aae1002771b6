// fastconv._core: names and exceptions, nothing else.
#include "../core/error.h"
#include "bindings.h"

PYBIND11_MODULE(_core, m) {
  namespace py = pybind11;
  m.doc() = "The compiled engine of fastconv. Use the functions of the fastconv package.";
  m.attr("__version__") = FASTCONV_VERSION;
  py::register_local_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const fastconv::InvalidType& e) {
      py::set_error(PyExc_TypeError, e.what());
    } catch (const fastconv::Unsupported& e) {
      py::set_error(PyExc_NotImplementedError, e.what());
    }
  });
  fastconv::bindings::register_conv(m);
  fastconv::bindings::register_plan(m);
  fastconv::bindings::register_pool(m);
  fastconv::bindings::register_optim(m);
  fastconv::bindings::register_introspection(m);
}
