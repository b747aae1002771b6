// pointwise: a 1x1 convolution is a plain matrix product, and both layouts of the image are already its operand.
//
//   y[out_c][pixel] = sum over in_c of  w[out_c][in_c] * x[in_c][pixel]
//
// NCHW: a row of pixels per channel; the tile reads vectors of pixels, or broadcasts them, where they lie, or from
// panels: each element of depth begins another row, often another page, and where many tiles of weights read the same
// pixels it is cheaper to bring those rows together once.
// NHWC: a row of channels per pixel; pixels go down the rows of the tile, channels along its vectors.
// Stride 1, no padding, forward or input gradient (the same with the weights transposed). The nest is gather_nest.h.
// A fully connected layer is this with the batch as pixels.
//
// Tried and lost: pixels outermost with a panel that fits L1, or in place (a gain for one image, a loss for eight); a
// panel packed just before its first use, its rows asked for by the tile before; prefetch inside the loop that packs.
#include "gather_nest.h"

namespace fastconv {

Support pointwise_supports(const ConvProblem& p, const Machine&) {
  if (p.direction == Direction::weight_gradient) return {"pointwise computes no weight gradients"};
  for (const Axis& a : p.axes)
    if (a.kernel != 1 || a.stride != 1 || a.pad_lo != 0 || a.pad_hi != 0)
      return {"needs kernel 1, stride 1 and no padding"};
  return {};
}

double pointwise_cost(const ConvProblem& p, const Machine& machine, int threads) {
  return gathers_cost(p, machine, threads, PixelRead::either);
}

void pointwise_prepare(ConvPlan& plan) { prepare_gathers(plan, PixelRead::either); }

void pointwise_pack(const ConvPlan& plan, const void* w, void* packed, Interrupt& interrupt) {
  pack_gathers(plan, w, packed, interrupt);
}

void pointwise_run(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace, Interrupt& interrupt) {
  run_gathers(plan, operands, workspace, interrupt);
}

}  // namespace fastconv
