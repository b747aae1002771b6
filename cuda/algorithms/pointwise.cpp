// A convolution of one tap, stride 1 and no padding: a plain matrix product, of float16, bfloat16, and float32 as one
// or three products of tf32; forward and input gradient, groups, both layouts.
//
//   dst[n, m] = sum over k of  w[m, k] * src[n, k]        n pixels, k src channels, m dst channels
//   NHWC   rows of src are pixels:    16 bytes are channels of one pixel   (VectorSource of kernels/mma_im2col.cuh)
//   NCHW   rows of src are channels:  16 bytes are pixels of one channel   (PlaneSource), which im2col has to read
//          element by element, since a window's taps move them
// The pixels of an image are one axis here, so that none is looked for in rows and planes. Filters of whole 16 bytes
// are read where they are, which spares a launch; others, and those of an input gradient, are packed as those of im2col
// are. Tiles, splits and the loop nest are im2col's (im2col_mma.cu). An array that is not aligned to 16 bytes is read
// element by element, in the same order of the same sums.
#include "../matrix_choice.h"
#include "algorithms.h"

namespace fastconv::cuda {
namespace {

bool whole_chunks(int64_t elements, Element element) {
  return elements * static_cast<int64_t>(cuda::size_of(element)) % 16 == 0;
}

// The one gather, with all pixels of an image along its last axis.
std::vector<Gather> flat_gathers(const ConvProblem& p) {
  std::vector<Gather> gathers = make_gathers(p);
  Gather& g = gathers[0];
  const int64_t pixels = g.pixels();
  const Walk one{1, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1};
  g.walks = {one, one, one};
  Walk& walk = g.walks[2];
  walk.src = walk.dst = walk.dst_full = pixels;
  return gathers;
}

}  // namespace

Support pointwise_supports(const ConvProblem& p, const Target& t) {
  if (t.element == Element::float64) return {"the dtype is float64"};
  if (t.device.arch < 80) return {"it needs an architecture of 8.0 or newer"};
  if (p.direction == Direction::weight_gradient) return {"it has no weight gradient"};
  for (const Axis& a : p.axes)
    if (a.kernel != 1 || a.stride != 1 || a.pad_lo != 0 || a.pad_hi != 0 || a.in != a.out)
      return {"needs kernel 1, stride 1 and no padding"};
  if (t.pooled) return {"it does not pool"};
  if (t.precision == Precision::fp32_simt && t.element == Element::float32) return {"it has no fused multiply-adds"};
  const bool forward = p.direction == Direction::forward;
  const int64_t src_c = forward ? p.in_c_group() : p.out_c_group(), dst_c = forward ? p.out_c_group() : p.in_c_group();
  if (p.layout == Layout::nhwc && !whole_chunks(src_c, t.element))
    return {"the channels of a pixel are no multiple of 16 bytes"};
  if (p.layout == Layout::nchw && !whole_chunks(p.out_pixels(), t.element))
    return {"a plane is no multiple of 16 bytes"};
  if (dst_c > int64_t{kMostBlocksYZ} * 64) return {"too many channels for a grid"};
  return fits_32_bits(p);
}

double pointwise_cost(const ConvProblem& p, const Target& t, int) {
  return choose_matrix(p, flat_gathers(p), t, true).cycles;
}

void pointwise_prepare(ConvPlan& plan) {
  const ConvProblem& p = plan.problem;
  const MatrixChoice choice = choose_matrix(p, plan.gathers, target_of(plan), true);
  plan.gathers = flat_gathers(p);
  plan.plain_matrix = true, plan.tile = choice.tile, plan.splits = choice.splits;
  const bool forward = p.direction == Direction::forward;
  if (forward && whole_chunks(p.in_c_group(), plan.element))
    plan.weight_alignment = 16;
  else
    plan.packed_bytes = im2col_mma_packed_bytes(plan);
  const int64_t results = forward ? p.batch * p.out_c * p.out_pixels() : p.batch * p.in_c * p.in_pixels();
  if (plan.splits > 1) plan.workspace_bytes = static_cast<size_t>(results * plan.splits) * sizeof(float);
}

void pointwise_pack(const ConvPlan& plan, const void* w, void* packed, Stream& stream) {
  im2col_mma_pack(plan, w, packed, stream);
}

void pointwise_run(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace, Stream& stream) {
  ConvOperands given = operands;
  if (!plan.packed_bytes) {
    if (!aligned_16(operands.w)) throw Unsupported("pointwise: the weights are not aligned to 16 bytes");
    given.packed = operands.w;
  }
  im2col_mma_run(plan, given, workspace, stream);
}

}  // namespace fastconv::cuda
