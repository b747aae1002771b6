// One step of Adam on the elements of a parameter (python/fastconv/optim.py), in one pass over its arrays:
//
//   g = grad + decay * data,   mean = mean * beta1 + g,   square = square * beta2 + g^2
//   data -= mean / (sqrt(square) + eps) * rate
//
// The averages are kept without their factors 1 - beta; those, and the corrections of the first steps, are in eps and
// rate. Compiled for the plain architecture: a root and a division per element, which no wider vector makes much
// quicker.
#pragma once

#include <cstdint>

#include "../core/dtype.h"
#include "parallel.h"

namespace fastconv {

struct AdamStep {
  DType dtype;  // float32 or float64, of all arrays
  int64_t count;
  void *data, *mean, *square;
  const void* grad;
  double beta1, beta2, decay, eps, rate;
};

// False: interrupted, with some elements changed and others not.
bool run_adam(const AdamStep& step, Interrupt::Poll poll);

}  // namespace fastconv
