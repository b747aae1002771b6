#include "pool_problem.h"

#include "checks.h"

namespace fastconv {
namespace {

constexpr int64_t Axis::* kIn = &Axis::in;

std::array<int64_t, 3> space_of(const std::array<Axis, 3>& axes, int64_t Axis::* extent) {
  return {axes[0].*extent, axes[1].*extent, axes[2].*extent};
}

void set_window(Axis& axis, int i, const Shape& kernel, const std::optional<Shape>& stride, const Checks& check) {
  axis.kernel = check.per_axis(kernel, i, "kernel_size", 1);
  axis.stride = stride ? check.per_axis(*stride, i, "stride", 1) : axis.kernel;
}

// torch: at most half of the window, so that no window lies in the padding alone. ONNX: less than the window.
void set_pads(Axis& axis, int i, const PoolSpec& spec, const Checks& check) {
  const auto [lo, hi] = check.pads(spec.padding, i);
  const int64_t window = checked_window(axis.kernel, axis.dilation);
  if (spec.pad_mode == PadMode::same) set_same_pads(axis);
  if (spec.pad_mode != PadMode::explicit_pads) return;
  const int64_t limit = spec.pad_pairs ? window - 1 : window / 2;
  for (int64_t pad : {lo, hi})
    if (pad > limit)
      check.fail("padding=", pad, ": expected at most ", limit, spec.pad_pairs ? ", less than" : ", half of",
                 " the window of kernel_size=", axis.kernel, " and dilation=", axis.dilation);
  axis.pad_lo = lo;
  axis.pad_hi = hi;
}

// A dilation larger than the input may step over it from a start in the padding: such a maximum has no place.
void expect_elements(const Axis& axis, const Checks& check) {
  constexpr int64_t kMaxChecked = int64_t{1} << 24;  // windows starting in the padding: a check of 0.1 s
  const int64_t starts = std::min(axis.out, axis.pad_lo / axis.stride + 1);
  int64_t o = 0;
  while (o < std::min(starts, kMaxChecked) && window_at(axis, o).taps > 0) ++o;
  if (o < starts)
    check.fail("dilation=", axis.dilation, " with padding=", axis.pad_lo, " steps over the whole input of size ",
               axis.in, ": expected every window to hold an element, since return_indices asks for its place");
}

void set_axis(Axis& axis, int i, const PoolSpec& spec, const Checks& check) {
  set_window(axis, i, spec.kernel, spec.stride, check);
  axis.dilation = check.per_axis(spec.dilation, i, "dilation", 1);
  set_pads(axis, i, spec, check);
  axis.out = infer_out(axis, spec.ceil_mode);
  if (axis.out < 1)
    check.fail("kernel_size spans ", axis.window(), " (kernel ", axis.kernel, ", dilation ", axis.dilation,
               "): expected at most the padded input size ", axis.in + axis.pad_lo + axis.pad_hi, " (", axis.in,
               " + padding ", axis.pad_lo, "+", axis.pad_hi, ")");
  if (spec.indices && axis.dilation > axis.in) expect_elements(axis, check);
}

// Returns whether the windows of the axis differ in size or step.
bool set_adaptive_axis(Axis& axis, int i, const PoolSpec& spec, const Checks& check) {
  const Shape& sizes = spec.output_size;
  if (sizes.size() != 1 && sizes.size() != static_cast<size_t>(spec.spatial))
    check.fail("output_size has ", sizes.size(), " entries: expected 1 or ", spec.spatial);
  const int64_t size = sizes.size() == 1 ? sizes[0] : sizes[i];
  axis.out = size == kSameSize ? axis.in : check.per_axis({size}, 0, "output_size", 1);
  checked_mul(axis.in, checked_add(axis.out, 1, "output_size"), "size * output_size");
  // With in = out * step + rest, window o begins at step * o + floor(o * rest / out): evenly spaced for a rest of 0
  // or 1.
  const int64_t step = axis.in / axis.out, rest = axis.in % axis.out;
  if (step == 0 || rest > 1) return true;
  axis.stride = step;
  axis.kernel = step + rest;
  return false;
}

}  // namespace

PoolProblem PoolProblem::make(const PoolSpec& spec) {
  const Checks check{spec.op, spec.spatial, spec.dtype, spec.layout};
  PoolProblem p;
  p.kind = spec.kind;
  p.dtype = spec.dtype;
  p.layout = spec.layout;
  p.spatial = spec.spatial;
  p.count_include_pad = spec.count_include_pad && spec.pad_mode != PadMode::same;
  if (spec.divisor_override) {
    p.divisor = *spec.divisor_override;
    if (p.divisor == 0) check.fail("divisor_override=0: expected any other number");
  }
  const auto e = check.extents(spec.x_shape, spec.x_name);
  p.batch = e.batch;
  p.channels = e.channels;
  p.unbatched = e.unbatched;
  for (int i = 0; i < spec.spatial; ++i) {
    const int at = 3 - spec.spatial + i;
    p.axes[at].in = e.space[at];
    if (spec.adaptive)
      p.adaptive[at] = set_adaptive_axis(p.axes[at], i, spec, check);
    else
      set_axis(p.axes[at], i, spec, check);
  }
  check.byte_count(p.y_shape(), "output size");
  int64_t taps = 1;
  for (const Axis& axis : p.axes) taps = checked_mul(taps, axis.kernel, "kernel_size");
  if (spec.y_shape && *spec.y_shape != p.y_shape())
    check.fail("grad_output has shape ", shape_text(*spec.y_shape), ": expected ", shape_text(p.y_shape()));
  return p;
}

bool PoolProblem::global() const {
  for (const Axis& axis : axes)
    if (axis.out != 1 || axis.kernel != axis.in || axis.pad_lo || axis.pad_hi || axis.dilation != 1) return false;
  return true;
}

Shape PoolProblem::arranged_by(int64_t Axis::* extent) const {
  return arranged(layout, unbatched, batch, channels, spatial, space_of(axes, extent));
}

namespace {

// max_unpool: every size follows from the window, or was chosen by the user less than a stride away from that.
void derive_target(std::array<Axis, 3>& axes, const PlaceSpec& spec, const Shape& whole, const Checks& check) {
  const size_t spatial = spec.spatial;
  for (size_t i = 0; i < spatial; ++i) {
    Axis& axis = axes[3 - spatial + i];
    set_window(axis, static_cast<int>(i), spec.kernel, spec.stride, check);
    const auto [lo, hi] = check.pads(spec.padding, static_cast<int>(i));
    axis.pad_lo = lo;
    axis.pad_hi = hi;
    axis.in = infer_unpooled(axis);
    if (spec.output_size) {
      const Shape& sizes = *spec.output_size;
      if (sizes.size() != spatial && sizes.size() != whole.size())
        check.fail("output_size=", shape_text(sizes), ": expected ", spatial, " spatial sizes or ", whole.size());
      const bool last = spec.layout == Layout::nhwc;
      const size_t skip = sizes.size() == spatial ? 0 : whole.size() - spatial - (last ? 1 : 0);
      const int64_t size = sizes[skip + i];
      if (size <= axis.in - axis.stride || size >= axis.in + axis.stride)
        check.fail("output_size=", shape_text(sizes), ": expected a size between ", axis.in - axis.stride, " and ",
                   axis.in + axis.stride, " (both excluded) on spatial axis ", i);
      axis.in = size;
    }
    if (axis.in < 1)
      check.fail("the output size would be ", axis.in, " (input ", axis.out, ", kernel ", axis.kernel, ", stride ",
                 axis.stride, ", padding ", lo, "+", hi, "): expected at least 1");
  }
}

}  // namespace

PlaceProblem PlaceProblem::make(const PlaceSpec& spec) {
  const Checks check{spec.op, spec.spatial, spec.dtype, spec.layout};
  const auto e = check.extents(spec.values_shape, spec.values_name);
  if (spec.indices_shape != spec.values_shape)
    check.fail("indices has shape ", shape_text(spec.indices_shape), ": expected ", shape_text(spec.values_shape),
               ", that of ", spec.values_name);
  std::array<Axis, 3> axes;
  for (int i = 0; i < 3; ++i) axes[i].out = e.space[i];
  PlaceProblem p;
  p.dtype = spec.dtype;
  p.layout = spec.layout;
  p.batch = e.batch;
  p.channels = e.channels;
  p.values_shape = spec.values_shape;
  if (spec.target_shape) {
    const auto target = check.extents(*spec.target_shape, spec.target_name);
    if (target.batch != e.batch || target.channels != e.channels || target.unbatched != e.unbatched)
      check.fail(spec.target_name, " has shape ", shape_text(*spec.target_shape), " and ", spec.values_name, " ",
                 shape_text(spec.values_shape), ": expected the same batch and channels");
    for (int i = 0; i < 3; ++i) axes[i].in = target.space[i];
  } else {
    derive_target(axes, spec, spec.values_shape, check);
  }
  p.target_shape = arranged(spec.layout, e.unbatched, e.batch, e.channels, spec.spatial, space_of(axes, kIn));
  check.byte_count(p.target_shape, "output size");
  // The full form of output_size also names batch and channels.
  if (spec.output_size && spec.output_size->size() == p.target_shape.size() && *spec.output_size != p.target_shape)
    check.fail("output_size=", shape_text(*spec.output_size), ": expected ", shape_text(p.target_shape));
  p.values = axes[0].out * axes[1].out * axes[2].out;
  p.targets = axes[0].in * axes[1].in * axes[2].in;
  return p;
}

}  // namespace fastconv
