// ConvProblem: what a convolution call asks, and nothing about how it is done.
//
// Three arrays, always named by their place in the *forward* convolution:
//   x  [batch, in_c,           in  d h w]
//   w  [out_c, in_c / groups,  ker d h w]
//   y  [batch, out_c,          out d h w]
// and a direction that says which of them is computed from the other two:
//   forward          y from x, w      conv1d/2d/3d
//   input_gradient   x from y, w      grad.conv*_input, and conv_transpose* (its input is y, its output x)
//   weight_gradient  w from x, y      grad.conv*_weight
// layout NHWC puts the channels of x and y last; w keeps the order above in both layouts.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "axis.h"
#include "dtype.h"
#include "tensor.h"

namespace fastconv {

enum class Direction : uint8_t { forward, input_gradient, weight_gradient };
enum class Layout : uint8_t { nchw, nhwc };
enum class Activation : uint8_t { none, relu, relu6, silu, hardswish };

const char* name_of(Direction);
const char* name_of(Layout);
const char* name_of(Activation);
Layout layout_from(const std::string& name);
Activation activation_from(const std::string& name);
// Bounds that a tile applies on registers; the others are curves (cpu/kernels/curve).
inline bool is_clamp(Activation a) { return a == Activation::relu || a == Activation::relu6; }

// A call as the user spelled it, before anything is checked. `x_name` and so on are the argument names to blame.
struct ConvSpec {
  const char* op = "conv2d";
  Direction direction = Direction::forward;
  bool transposed = false;  // input_gradient whose x is derived (conv_transpose) and not given (grad.*_input)
  int spatial = 2;          // 1, 2 or 3
  DType dtype = DType::float32;
  Layout layout = Layout::nchw;
  Activation activation = Activation::none;
  int64_t groups = 1;
  Shape stride{1}, dilation{1}, output_padding{0};      // one number or one per axis
  std::vector<std::array<int64_t, 2>> padding{{0, 0}};  // one (lo, hi) or one per axis
  PadMode pad_mode = PadMode::explicit_pads;
  std::optional<Shape> x_shape, w_shape, y_shape, bias_shape, residual_shape;  // those that were given
  const char* x_name = "x";
  const char* w_name = "weight";
  const char* y_name = "grad_output";
};

struct ConvProblem {
  Direction direction = Direction::forward;
  DType dtype = DType::float32;
  Layout layout = Layout::nchw;
  Activation activation = Activation::none;
  bool has_bias = false;
  bool has_residual = false;  // an array of the result's shape, added before the activation; forward only
  bool unbatched = false;     // x and y have no batch axis; batch is 1
  int spatial = 2;
  int64_t batch = 0, groups = 1, in_c = 0, out_c = 0;
  std::array<Axis, 3> axes;  // depth, height, width; the unused leading ones are the identity

  // The only validation of convolutions and the only place where their output sizes are derived.
  static ConvProblem make(const ConvSpec& spec);

  const Axis& d() const { return axes[0]; }
  const Axis& h() const { return axes[1]; }
  const Axis& w() const { return axes[2]; }
  int64_t in_c_group() const { return in_c / groups; }
  int64_t out_c_group() const { return out_c / groups; }
  int64_t taps() const { return axes[0].kernel * axes[1].kernel * axes[2].kernel; }
  int64_t in_pixels() const { return axes[0].in * axes[1].in * axes[2].in; }
  int64_t out_pixels() const { return axes[0].out * axes[1].out * axes[2].out; }
  int64_t weight_elements() const { return out_c * in_c_group() * taps(); }
  double flops() const;  // 2 * multiply-adds; the same number for each direction

  Shape x_shape() const;
  Shape w_shape() const;
  Shape y_shape() const;
  Shape result_shape() const;  // of the array that `direction` computes
  void check_residual(const Shape& shape) const;
  int64_t bias_length() const { return direction == Direction::input_gradient ? in_c : out_c; }
  std::string to_string() const;
  size_t hash() const;
  bool operator==(const ConvProblem&) const = default;
};

}  // namespace fastconv
