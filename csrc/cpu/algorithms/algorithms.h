// The functions behind the rows of the table, and the few lines every loop nest needs.
#pragma once

#include <cmath>
#include <limits>

#include "../kernels/kernels.h"
#include "../plan.h"

namespace fastconv {

#define FASTCONV_DECLARE_ALGORITHM(name)                                      \
  Support name##_supports(const ConvProblem&, const Machine&);                \
  double name##_cost(const ConvProblem&, const Machine&, int threads);        \
  void name##_prepare(ConvPlan&);                                             \
  void name##_pack(const ConvPlan&, const void* w, void* packed, Interrupt&); \
  void name##_run(const ConvPlan&, const ConvOperands&, std::byte* workspace, Interrupt&);

FASTCONV_DECLARE_ALGORITHM(pointwise)
FASTCONV_DECLARE_ALGORITHM(depthwise)
FASTCONV_DECLARE_ALGORITHM(direct)
FASTCONV_DECLARE_ALGORITHM(indirect)
FASTCONV_DECLARE_ALGORITHM(winograd)
FASTCONV_DECLARE_ALGORITHM(winograd_batch)
FASTCONV_DECLARE_ALGORITHM(im2col)
FASTCONV_DECLARE_ALGORITHM(reference)
#undef FASTCONV_DECLARE_ALGORITHM
double winograd_pack_cost(const ConvProblem&, const Machine&);
double winograd_batch_pack_cost(const ConvProblem&, const Machine&);

// The error of the rows `winograd`: 150 units of rounding (2^-24), twice the worst that was measured, 69, over all its
// forms, images of 6x6 to 56x56, 1 to 512 channels, and numbers normal, uniform in [0, 1) and small integers.
constexpr double kWinogradError = 150.0 / (1 << 24);

template <class T>
T activated(T value, Activation activation) {
  const double v = value;
  switch (activation) {
    case Activation::none:
      return value;
    case Activation::silu:
      return static_cast<T>(v / (1 + std::exp(-v)));
    case Activation::hardswish:
      return static_cast<T>(v * (v < -3 ? 0 : v > 3 ? 6 : v + 3) / 6);
    default:
      if (value < T{0}) return T{0};
      return activation == Activation::relu6 && value > T{6} ? T{6} : value;
  }
}

// The clamp of a kernel's tile, where this is the last pass over its results.
template <class Tile>
void set_clamp(Tile& tile, Activation activation, bool last) {
  using T = decltype(tile.high);
  tile.activate = last && is_clamp(activation);
  tile.low = T{0};
  tile.high = activation == Activation::relu6 ? T{6} : std::numeric_limits<T>::infinity();
}

// The curve to run over results while they are in L1, or null.
template <class T>
CurveFunction<T> curve_of(const ConvPlan& plan) {
  const CurveKernel<T>& kernel = typed<T>(kernels_for(plan.machine.isa).curve);
  const Activation activation = plan.problem.activation;
  return activation == Activation::silu        ? kernel.silu
         : activation == Activation::hardswish ? kernel.hardswish
                                               : nullptr;
}

// Positions of x that no window reads (core/gather.h, covers_result) hold bias and activation of an empty sum.
template <class T>
void fill_uncovered(const ConvPlan& plan, const ConvOperands& operands) {
  const ConvProblem& p = plan.problem;
  const T* const bias = static_cast<const T*>(operands.bias);
  T* x = static_cast<T*>(operands.x);
  const bool channels_last = p.layout == Layout::nhwc;
  for (int64_t outer = 0; outer < p.batch * (channels_last ? p.in_pixels() : p.in_c); ++outer)
    for (int64_t inner = 0; inner < (channels_last ? p.in_c : p.in_pixels()); ++inner)
      *x++ = activated(bias ? bias[channels_last ? inner : outer % p.in_c] : T{0}, p.activation);
}

}  // namespace fastconv
