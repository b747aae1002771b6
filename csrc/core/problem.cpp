#include "problem.h"

#include "checks.h"

namespace fastconv {

const char* name_of(Direction direction) {
  switch (direction) {
    case Direction::forward:
      return "forward";
    case Direction::input_gradient:
      return "input_gradient";
    default:
      return "weight_gradient";
  }
}

const char* name_of(Layout layout) { return layout == Layout::nchw ? "NCHW" : "NHWC"; }

const char* name_of(Activation activation) {
  switch (activation) {
    case Activation::none:
      return "none";
    case Activation::relu:
      return "relu";
    case Activation::relu6:
      return "relu6";
    case Activation::silu:
      return "silu";
    default:
      return "hardswish";
  }
}

Layout layout_from(const std::string& name) {
  if (name == "NCHW") return Layout::nchw;
  if (name == "NHWC") return Layout::nhwc;
  throw InvalidArgument(cat("layout=", quoted(name), ": expected 'NCHW' or 'NHWC'"));
}

Activation activation_from(const std::string& name) {
  for (Activation activation :
       {Activation::none, Activation::relu, Activation::relu6, Activation::silu, Activation::hardswish})
    if (name == name_of(activation)) return activation;
  throw InvalidArgument(cat("activation=", quoted(name), ": expected None, 'relu', 'relu6', 'silu' or 'hardswish'"));
}

namespace {

struct Checker : Checks {
  explicit Checker(const ConvSpec& s) : Checks{s.op, s.spatial, s.dtype, s.layout}, spec(s) {}
  const ConvSpec& spec;
};

void set_channels(ConvProblem& p, const Checker& check) {
  const ConvSpec& spec = check.spec;
  const Shape& w = *spec.w_shape;
  if (w.size() != static_cast<size_t>(spec.spatial) + 2)
    check.fail(spec.w_name, " has shape ", shape_text(w), ": expected ", spec.spatial + 2, " axes");
  for (int64_t extent : w)
    if (extent < 1) check.fail(spec.w_name, " has shape ", shape_text(w), ": expected every size to be at least 1");
  check.byte_count(w, spec.w_name);
  if (spec.groups < 1) check.fail("groups=", spec.groups, ": expected at least 1");
  p.groups = spec.groups;
  p.out_c = w[0];
  p.in_c = checked_mul(w[1], spec.groups, "channels * groups");
  if (p.out_c % p.groups)
    check.fail("groups=", p.groups, ": expected a divisor of the ", p.out_c, " ", spec.transposed ? "input" : "output",
               " channels of ", spec.w_name, " ", shape_text(w));
}

void expect_channels(int64_t got, int64_t expected, const Shape& shape, const char* name, const Checker& check) {
  if (got == expected) return;
  const ConvSpec& spec = check.spec;
  // The commonest slip deserves a hint: the channels are where the other layout has them.
  const bool batched = shape.size() == static_cast<size_t>(spec.spatial) + 2;
  const int64_t elsewhere = spec.layout == Layout::nchw ? shape.back() : shape[batched];
  const char* hint = elsewhere != expected         ? ""
                     : spec.layout == Layout::nchw ? "; for channels last pass layout='NHWC'"
                                                   : "; for channels first pass layout='NCHW'";
  check.fail(name, " has ", got, " channels (shape ", shape_text(shape), "): expected ", expected, " for ", spec.w_name,
             " ", shape_text(*spec.w_shape), " with groups=", spec.groups, hint);
}

void set_axis(Axis& axis, int i, const Checker& check) {
  const ConvSpec& spec = check.spec;
  axis.stride = check.per_axis(spec.stride, i, "stride", 1);
  axis.dilation = check.per_axis(spec.dilation, i, "dilation", 1);
  const auto [lo, hi] = check.pads(spec.padding, i);
  if (spec.pad_mode == PadMode::explicit_pads) {
    axis.pad_lo = lo;
    axis.pad_hi = hi;
  }
}

// conv_transpose: y is given, the extent of x follows from output_padding.
void derive_input(Axis& axis, int i, const Checker& check) {
  const ConvSpec& spec = check.spec;
  const int64_t extra = check.per_axis(spec.output_padding, i, "output_padding", 0);
  if (extra >= std::max(axis.stride, axis.dilation))
    check.fail("output_padding=", extra, ": expected less than stride=", axis.stride, " or dilation=", axis.dilation);
  if (spec.pad_mode == PadMode::same)
    check.fail("padding='same': expected numbers or 'valid' for a transposed convolution");
  axis.in = infer_transposed(axis, extra);
  if (axis.in < 1)
    check.fail("the output size would be ", axis.in, " (input ", axis.out, ", kernel ", axis.kernel, ", stride ",
               axis.stride, ", padding ", axis.pad_lo, "+", axis.pad_hi, "): expected at least 1");
}

// Everything else: x is given, the extent of y follows.
void derive_output(Axis& axis, const Checker& check) {
  const ConvSpec& spec = check.spec;
  if (spec.pad_mode == PadMode::same) set_same_pads(axis);
  axis.out = infer_out(axis);
  if (axis.out < 1)
    check.fail(spec.w_name, " spans ", checked_window(axis.kernel, axis.dilation), " (kernel ", axis.kernel,
               ", dilation ", axis.dilation, "): expected at most the padded input size ",
               axis.in + axis.pad_lo + axis.pad_hi, " (", axis.in, " + padding ", axis.pad_lo, "+", axis.pad_hi, ")");
}

}  // namespace

ConvProblem ConvProblem::make(const ConvSpec& spec) {
  const Checker check{spec};
  ConvProblem p;
  p.direction = spec.direction;
  p.dtype = spec.dtype;
  p.layout = spec.layout;
  p.activation = spec.activation;
  p.has_bias = spec.bias_shape.has_value();
  p.has_residual = spec.residual_shape.has_value();
  p.spatial = spec.spatial;
  set_channels(p, check);

  const Shape& given = spec.transposed ? *spec.y_shape : *spec.x_shape;
  const char* given_name = spec.transposed ? spec.y_name : spec.x_name;
  const auto e = check.extents(given, given_name);
  p.batch = e.batch;
  p.unbatched = e.unbatched;
  expect_channels(e.channels, spec.transposed ? p.out_c : p.in_c, given, given_name, check);

  for (int i = 0; i < spec.spatial; ++i) {
    Axis& axis = p.axes[3 - spec.spatial + i];
    axis.kernel = (*spec.w_shape)[2 + i];
    (spec.transposed ? axis.out : axis.in) = e.space[3 - spec.spatial + i];
    set_axis(axis, i, check);
    if (spec.transposed)
      derive_input(axis, i, check);
    else
      derive_output(axis, check);
  }
  check.byte_count(p.x_shape(), "output size");
  check.byte_count(p.y_shape(), "output size");
  checked_mul(checked_mul(p.out_pixels(), p.taps(), "window positions"), p.in_c_group(), "window positions");

  if (!spec.transposed && spec.y_shape && *spec.y_shape != p.y_shape())
    check.fail(spec.y_name, " has shape ", shape_text(*spec.y_shape), ": expected ", shape_text(p.y_shape()));
  if (spec.bias_shape && *spec.bias_shape != Shape{p.bias_length()})
    check.fail("bias has shape ", shape_text(*spec.bias_shape), ": expected (", p.bias_length(), ",)");
  if (spec.residual_shape) p.check_residual(*spec.residual_shape);
  return p;
}

double ConvProblem::flops() const {
  return 2.0 * static_cast<double>(batch) * static_cast<double>(out_c) * static_cast<double>(in_c_group()) *
         static_cast<double>(taps()) * static_cast<double>(out_pixels());
}

Shape ConvProblem::x_shape() const {
  return arranged(layout, unbatched, batch, in_c, spatial, {d().in, h().in, w().in});
}
Shape ConvProblem::y_shape() const {
  return arranged(layout, unbatched, batch, out_c, spatial, {d().out, h().out, w().out});
}

Shape ConvProblem::w_shape() const {
  Shape shape{out_c, in_c_group()};
  for (int i = 3 - spatial; i < 3; ++i) shape.push_back(axes[i].kernel);
  return shape;
}

Shape ConvProblem::result_shape() const {
  if (direction == Direction::forward) return y_shape();
  return direction == Direction::input_gradient ? x_shape() : w_shape();
}

void ConvProblem::check_residual(const Shape& shape) const {
  if (direction != Direction::forward)
    throw InvalidArgument(cat("residual is given: expected None for direction='", name_of(direction), "'"));
  if (shape != y_shape())
    throw InvalidArgument(cat("residual has shape ", shape_text(shape), ": expected ", shape_text(y_shape()),
                              ", the shape of the result"));
}

std::string ConvProblem::to_string() const {
  std::ostringstream text;
  text << name_of(direction) << ' ' << name_of(dtype) << ' ' << name_of(layout) << " x" << shape_text(x_shape()) << " w"
       << shape_text(w_shape()) << " y" << shape_text(y_shape()) << " groups=" << groups;
  for (int i = 3 - spatial; i < 3; ++i)
    text << " [" << axes[i].in << "->" << axes[i].out << " k" << axes[i].kernel << " s" << axes[i].stride << " d"
         << axes[i].dilation << " p" << axes[i].pad_lo << '+' << axes[i].pad_hi << ']';
  text << (has_bias ? " bias" : "") << (has_residual ? " residual" : "");
  if (activation != Activation::none) text << ' ' << name_of(activation);
  return text.str();
}

size_t ConvProblem::hash() const {
  size_t value = static_cast<size_t>(direction) | static_cast<size_t>(dtype) << 2 | static_cast<size_t>(layout) << 4 |
                 static_cast<size_t>(activation) << 6 | size_t{has_bias} << 9 | size_t{has_residual} << 10 |
                 size_t{unbatched} << 11 | static_cast<size_t>(spatial) << 12;
  // The mixing step of Boost's hash_combine with the 64-bit golden ratio.
  const auto mix = [&value](int64_t field) {
    value ^= static_cast<size_t>(field) + 0x9e3779b97f4a7c15u + (value << 6) + (value >> 2);
  };
  mix(batch), mix(groups), mix(in_c), mix(out_c);
  for (const Axis& a : axes)
    mix(a.in), mix(a.kernel), mix(a.stride), mix(a.dilation), mix(a.pad_lo), mix(a.pad_hi), mix(a.out);
  return value;
}

}  // namespace fastconv
