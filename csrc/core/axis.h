// One spatial axis of a window operation, and the ONLY shape formulas of the project.
//
//   output o reads input positions  o * stride + t * dilation - pad_lo,  t = 0 .. kernel - 1
//   window = (kernel - 1) * dilation + 1
//   out    = floor((in + pad_lo + pad_hi - window) / stride) + 1
//
// A convolution over fewer than three axes has the identity axis {in=1, kernel=1, stride=1, ...} in front.
// Formulas follow PyTorch's documentation; 'same' with stride > 1 follows TensorFlow and ONNX SAME_UPPER.
#pragma once

#include <cstdint>

#include "error.h"
#include "window.h"

namespace fastconv {

struct Axis {
  int64_t in = 1, kernel = 1, stride = 1, dilation = 1, pad_lo = 0, pad_hi = 0, out = 1;

  int64_t window() const { return (kernel - 1) * dilation + 1; }
  // Output positions whose every tap lies inside the input are [inner_begin, inner_end).
  int64_t inner_begin() const {
    const int64_t first = (pad_lo + stride - 1) / stride;
    return first < out ? first : out;
  }
  int64_t inner_end() const {
    const int64_t room = in + pad_lo - window();
    const int64_t end = room < 0 ? 0 : room / stride + 1;
    return end < inner_begin() ? inner_begin() : (end < out ? end : out);
  }
  bool operator==(const Axis&) const = default;
};

enum class PadMode : uint8_t { explicit_pads, valid, same };

// Largest single extent anything is allowed to reach: keeps every later sum of a few of them inside 64 bits.
constexpr int64_t kMaxExtent = int64_t{1} << 60;

// (kernel - 1) * dilation + 1, checked.
inline int64_t checked_window(int64_t kernel, int64_t dilation) {
  const int64_t reach = checked_mul(kernel - 1, dilation, "(kernel - 1) * dilation");
  if (reach >= kMaxExtent)
    throw InvalidArgument(cat("size overflow: (kernel - 1) * dilation = ", reach, " is beyond 2^60"));
  return reach + 1;
}

// in + pad_lo + pad_hi, checked.
inline int64_t checked_padded(int64_t in, int64_t pad_lo, int64_t pad_hi) {
  const int64_t padded = checked_add(checked_add(in, pad_lo, "size + padding"), pad_hi, "size + padding");
  if (padded >= kMaxExtent) throw InvalidArgument(cat("size overflow: size + padding = ", padded, " is beyond 2^60"));
  return padded;
}

// Fills pad_lo, pad_hi for 'same': out = ceil(in / stride), the odd element of padding at the end.
inline void set_same_pads(Axis& axis) {
  const int64_t out = (axis.in + axis.stride - 1) / axis.stride;
  const int64_t reach = checked_add((out - 1) * axis.stride, checked_window(axis.kernel, axis.dilation), "window");
  const int64_t total = reach > axis.in ? reach - axis.in : 0;
  axis.pad_lo = total / 2;
  axis.pad_hi = total - axis.pad_lo;
}

// Number of windows that fit; with ceil_mode also a last one that starts inside the input or the low padding.
// Returns 0 or less where not one window fits.
inline int64_t infer_out(const Axis& axis, bool ceil_mode = false) {
  const int64_t room = checked_padded(axis.in, axis.pad_lo, axis.pad_hi) - checked_window(axis.kernel, axis.dilation);
  if (room < 0) {
    // ceil_mode does not rescue a window that is larger than the padded input by a stride or more
    if (!ceil_mode || room <= -axis.stride) return 0;
    return 1;  // ceil(room / stride) + 1 with -stride < room < 0
  }
  int64_t out = room / axis.stride + 1;
  if (ceil_mode && room % axis.stride != 0 && out * axis.stride < axis.in + axis.pad_lo) ++out;
  return out;
}

// Pooling window `o`. The padding counts for an average, what ceil_mode hangs over the padding does not.
inline Window window_at(const Axis& axis, int64_t o) {
  const int64_t start = o * axis.stride - axis.pad_lo, reach = start + axis.window();
  const int64_t first = start < 0 ? start + (-start + axis.dilation - 1) / axis.dilation * axis.dilation : start;
  const int64_t end = reach < axis.in ? reach : axis.in, padded_end = axis.in + axis.pad_hi;
  const int64_t taps = first < end ? (end - first - 1) / axis.dilation + 1 : 0;
  return {first, taps, (reach < padded_end ? reach : padded_end) - start};
}

// Adaptive pooling: window `o` of `out` is [floor(o * in / out), ceil((o + 1) * in / out)).
inline Window adaptive_window(int64_t in, int64_t out, int64_t o) {
  const int64_t first = o * in / out, end = ((o + 1) * in + out - 1) / out;
  return {first, end - first, end - first};
}

// Max unpooling: the size that a pooling with this axis came from, if no input was left over.
inline int64_t infer_unpooled(const Axis& axis) {
  const int64_t steps = checked_mul(axis.out - 1, axis.stride, "(size - 1) * stride");
  return checked_add(steps, axis.kernel, "unpooled size") - axis.pad_lo - axis.pad_hi;
}

// Transposed convolution: the size that a convolution with this axis turns into `out`.
inline int64_t infer_transposed(const Axis& axis, int64_t output_padding) {
  const int64_t steps = checked_mul(axis.out - 1, axis.stride, "(size - 1) * stride");
  const int64_t reach = checked_add(steps, checked_window(axis.kernel, axis.dilation), "transposed size");
  return checked_add(reach, output_padding, "transposed size") - axis.pad_lo - axis.pad_hi;
}

}  // namespace fastconv
