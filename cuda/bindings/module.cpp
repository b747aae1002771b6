// fastconv._cuda. python/fastconv/cuda/_loader.py is the only place that imports it.
#include "bindings.h"

PYBIND11_MODULE(_cuda, m) {
  m.doc() = "The CUDA engine of fastconv. Use the functions of the fastconv package.";
  m.attr("__version__") = FASTCONV_VERSION;
  m.attr("compiler") = FASTCONV_CUDA_COMPILER;
  m.attr("architectures") = FASTCONV_CUDA_BUILT_FOR;
  fastconv::cuda::bindings::register_all(m);
}
