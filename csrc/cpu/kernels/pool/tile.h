// The pooling kernels of one ISA; an ISA file sets FASTCONV_VECTOR_BYTES and includes this.
#pragma once

#include "pixels.h"
#include "places.h"
#include "rows.h"

namespace {

template <class T>
constexpr PoolKernel<T> make_pool_kernel() {
  return {max_planes<T>,       average_planes<T>, max_pixels<T>, average_pixels<T>, join_planes<EitherMax, T>,
          join_planes<Sum, T>, add_row<T>,        divide_row<T>, correlate_row<T>,  spread_pixel<T>};
}

}  // namespace
