// The two loop nests of forward pooling, and the definition that they fall back on.
#pragma once

#include <cmath>
#include <limits>

#include "../../core/pool_problem.h"
#include "../kernels/kernels.h"
#include "partition.h"

namespace fastconv::pooling {

template <class T>
struct Operands {
  const T* x;
  T* y;
  int64_t* index;  // or null
};

template <class T>
void pool_planes(const PoolProblem& p, const Operands<T>& o, const PoolKernel<T>& kernel, Interrupt& interrupt);
template <class T>
void pool_pixels(const PoolProblem& p, const Operands<T>& o, const PoolKernel<T>& kernel, Interrupt& interrupt);

// Whether a flat index fits into the lanes of the kernels.
template <class T>
bool places_fit(const PoolProblem& p) {
  return p.in_pixels() < std::numeric_limits<Place<T>>::max() / 2;
}

// One maximum by its definition: the first of equals, the last of several NaN. `unit` is 1, or the channels of NHWC.
template <class T>
void scan_window(const PoolProblem& p, const Windows<T>& windows, const T* plane, int64_t unit, int64_t result, T* y,
                 int64_t* index) {
  const int64_t ow = result % p.w().out, oh = result / p.w().out % p.h().out, od = result / p.w().out / p.h().out;
  const Window &d = windows.axis[0][od], &h = windows.axis[1][oh], &w = windows.axis[2][ow];
  *y = -std::numeric_limits<T>::infinity();
  *index = -1;
  for (int64_t td = 0; td < d.taps; ++td)
    for (int64_t th = 0; th < h.taps; ++th)
      for (int64_t tw = 0; tw < w.taps; ++tw) {
        const int64_t at = ((d.first + td * p.d().dilation) * p.h().in + h.first + th * p.h().dilation) * p.w().in +
                           w.first + tw * p.w().dilation;
        const T value = plane[at * unit];
        if (*index < 0 || value > *y || std::isnan(value)) *y = value, *index = at;
      }
}

}  // namespace fastconv::pooling
