// Activations that are more than bounds, in place over results that a tile has just written.
//
//   silu       y = x * sigmoid(x) = x / (1 + exp(-x))       Elfwing, Uchibe, Doya, arXiv 1702.03118
//   hardswish  y = x * relu6(x + 3) / 6                     Howard et al., arXiv 1905.02244
//   for r < rows, q < cols:  y[r * row + q * col],  col == 1 in whole vectors; nothing else is touched
//
// Error of an element, as a share of it (u is half the machine epsilon): silu 4 u, hardswish 3 u, where the result is
// not subnormal; silu below -87 (float32) or -708 (float64) is -0, where it would be less than 1e-35 (1e-304).
// NaN stays; infinity gives infinity, -infinity NaN (-inf * 0), as the formulas say and torch does.
// The value of an element does not depend on its neighbours, nor on where in a vector it comes to lie.
#pragma once

#include <stdint.h>

namespace fastconv {

template <class T>
struct CurveTile {
  T* y;
  int64_t row, col;
  int64_t rows, cols;
};

template <class T>
using CurveFunction = void (*)(const CurveTile<T>&);

template <class T>
struct CurveKernel {
  CurveFunction<T> silu, hardswish;
};

struct CurveKernels {
  CurveKernel<float> f32;
  CurveKernel<double> f64;
};

extern const CurveKernels curve_baseline, curve_avx2, curve_avx512, curve_neon;

}  // namespace fastconv
