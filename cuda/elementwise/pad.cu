// Padding: a thread per element of the result, which finds the element of the image that it copies, axis by axis.
//
// Neighbouring axes that are not padded are one axis. Only bits move.
#include "../elementwise.h"
#include "../kernels/memory.cuh"

namespace fastconv::cuda {
namespace {

constexpr int kThreads = 256, kMostAxes = 8;

struct PadGeometry {
  int axes = 0;
  PaddedAxis axis[kMostAxes];
  Border border = Border::constant;
};

// Where position i of a padded axis comes from, or -1 for the constant.
__device__ __forceinline__ int64_t source(const PaddedAxis& a, Border border, int64_t i) {
  if (border == Border::circular) {  // what is cut goes first, and the circle is closed of what is left
    const int64_t cut = a.before < 0 ? -a.before : 0, kept = a.size - cut + (a.after < 0 ? a.after : 0);
    const int64_t at = i - (a.before > 0 ? a.before : 0);  // at most one turn away
    return cut + (at < 0 ? at + kept : at >= kept ? at - kept : at);
  }
  const int64_t at = i - a.before, last = a.size - 1;
  if (at >= 0 && at <= last) return at;
  if (border == Border::constant) return -1;
  if (border == Border::reflect) return at < 0 ? -at : 2 * last - at;
  return at < 0 ? 0 : last;
}

template <class T>
__global__ void __launch_bounds__(kThreads) pad(const T* x, T* y, int64_t elements, PadGeometry g, T value) {
  const int64_t to = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (to >= elements) return;
  int64_t rest = to, from = 0, stride = 1;
  bool inside = true;
  for (int i = g.axes - 1; i >= 0; --i) {
    const PaddedAxis& a = g.axis[i];
    const int64_t out = a.size + a.before + a.after, at = source(a, g.border, rest % out);
    inside = inside && at >= 0;
    rest /= out, from += at * stride, stride *= a.size;
  }
  store_global(y + to, inside ? load_global(x + from) : value);
}

PadGeometry geometry_of(std::span<const PaddedAxis> axes, Border border) {
  PadGeometry g;
  g.border = border;
  bool padded_before = true;
  for (const PaddedAxis& a : axes) {
    const bool padded = a.before != 0 || a.after != 0;
    if (!padded && !padded_before) {
      g.axis[g.axes - 1].size *= a.size;
      continue;
    }
    if (g.axes == kMostAxes) throw Unsupported(cat("pad on CUDA: more than ", kMostAxes, " axes"));
    g.axis[g.axes++] = a;
    padded_before = padded;
  }
  return g;
}

template <class T>
void launch_pad(const PadGeometry& g, T value, const void* x, void* y, Stream& stream) {
  int64_t elements = 1;
  for (int i = 0; i < g.axes; ++i) elements *= g.axis[i].out();
  const int64_t blocks = (elements + kThreads - 1) / kThreads;
  if (blocks > kMostBlocksX) throw Unsupported("pad on CUDA: more than 2^39 elements");
  launch("pad", pad<T>, dim3(static_cast<unsigned>(blocks)), kThreads, 0, stream, static_cast<const T*>(x),
         static_cast<T*>(y), elements, g, value);
}

template <class To, class From>
To bits_as(From value) {
  To bits;
  static_assert(sizeof bits == sizeof value);
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

}  // namespace

void run_pad(Element element, std::span<const PaddedAxis> axes, Border border, double value, const void* x, void* y,
             Stream& stream) {
  const PadGeometry g = geometry_of(axes, border);
  const auto single = static_cast<float>(value);
  switch (element) {
    case Element::float64:
      return launch_pad(g, bits_as<uint64_t>(value), x, y, stream);
    case Element::float32:
      return launch_pad(g, bits_as<uint32_t>(single), x, y, stream);
    case Element::float16:
      return launch_pad(g, host::narrow_half(single).bits, x, y, stream);
    default:
      return launch_pad(g, host::narrow_bfloat(single).bits, x, y, stream);
  }
}

}  // namespace fastconv::cuda
