// im2col as an implicit matrix product (Chellapilla et al. 2006, without ever writing the matrix): float32, forward and
// input gradient, any window, groups, both layouts. Here stands the strict loop nest, of fused multiply-adds; those on
// tensor cores are in im2col_mma.cu, the weight gradient in weight_gradient.cu.
//
//   pack   w -> packed[phase][group][tap][src_c][dst_c rounded up to 4], zeros in the padding
//   run    for each phase (core/gather.h), for each block of the grid: kernels/im2col_tile.cuh
// grid = (pixels of all images / N, dst_c / M, groups). Which tile, and when multiply-adds although tensor cores would
// be accurate enough: matrix_choice.h.
#include "../kernels/im2col_tile.cuh"
#include "../matrix_choice.h"
#include "algorithms.h"

namespace fastconv::cuda {
namespace {

constexpr int kPackThreads = 128;

__global__ void __launch_bounds__(kPackThreads) pack_weights(DeviceGather g, const float* w, float* packed) {
  const int64_t row = (g.dst_c + 3) / 4 * 4, count = g.groups * g.taps * g.src_c * row;
  for (int64_t item = int64_t{blockIdx.x} * kPackThreads + threadIdx.x; item < count;
       item += int64_t{gridDim.x} * kPackThreads) {
    const int64_t to = item % row, from = item / row % g.src_c, tap = item / row / g.src_c % g.taps,
                  group = item / row / g.src_c / g.taps;
    const int64_t tw = tap % g.w.taps, th = tap / g.w.taps % g.h.taps, td = tap / g.w.taps / g.h.taps;
    float value = 0;
    if (to < g.dst_c)
      value = load_global(w + group * g.w_group + to * g.w_dst + from * g.w_src + g.w_base + td * g.d.w_stride +
                          th * g.h.w_stride + tw * g.w.w_stride);
    store_global(packed + item, value);
  }
}

template <class Tile, int M, int N, int kStages, bool kChannelsLast>
__global__ void __launch_bounds__(TileShape<M, N>::kThreads, M == 128 ? 1 : 3)
    im2col(DeviceGather g, const float* src, const float* packed, TileResult<float> result) {
  im2col_block<Tile, M, N, kStages, kChannelsLast>(g, src, packed, result);
}

int64_t packed_floats(const ConvProblem& p, const Gather& g) {
  return p.groups * g.taps() * g.src_c * ((g.dst_c + 3) / 4 * 4);
}

struct Call {
  const DeviceGather& g;
  const float *src, *packed;
  TileResult<float> result;
  Stream& stream;
};

template <class Tile, int M, int N, int kStages>
void launch_tile(const char* name, const Call& c) {
  const dim3 grid(static_cast<unsigned>((c.g.batch * c.g.pixels + N - 1) / N),
                  static_cast<unsigned>((c.g.dst_c + M - 1) / M), static_cast<unsigned>(c.g.groups));
  constexpr size_t kShared = Im2colShared<M, N, kStages>::kBytes;
  static_assert(kShared <= kPlainShared);
  const auto kernel = c.g.channels_last ? im2col<Tile, M, N, kStages, true> : im2col<Tile, M, N, kStages, false>;
  launch(name, kernel, grid, TileShape<M, N>::kThreads, kShared, c.stream, c.g, c.src, c.packed, c.result);
}

void launch_simt(const ConvPlan& plan, const Call& c) {
  if (plan.tile == MatrixTile::large) return launch_tile<SimtTile<128, 128>, 128, 128, 2>("im2col_simt_128", c);
  launch_tile<SimtTile<64, 64>, 64, 64, 3>("im2col_simt_64", c);
}

}  // namespace

Support im2col_supports(const ConvProblem& p, const Target& t) {
  if (t.element == Element::float64) return {"the dtype is float64"};
  if (t.device.arch < 80) return {"it needs an architecture of 8.0 or newer"};
  if (t.pooled && p.has_residual) return {"a residual has the shape of a result that is not pooled"};
  if (p.direction == Direction::weight_gradient) return weight_gradient_supports(p);
  const int64_t dst_c = p.direction == Direction::forward ? p.out_c_group() : p.in_c_group();
  if (dst_c > int64_t{kMostBlocksYZ} * 64) return {"too many channels for a grid"};
  return fits_32_bits(p);
}

double im2col_cost(const ConvProblem& p, const Target& t, int) {
  if (p.direction == Direction::weight_gradient) return weight_gradient_cost(p, t);
  return choose_matrix(p, make_gathers(p), t).cycles;
}

void im2col_prepare(ConvPlan& plan) {
  if (plan.problem.direction == Direction::weight_gradient) return weight_gradient_prepare(plan);
  const MatrixChoice choice = choose_matrix(plan.problem, plan.gathers, target_of(plan));
  plan.simt = choice.simt, plan.tile = choice.tile, plan.splits = choice.splits;
  plan.packed_bytes = im2col_mma_packed_bytes(plan);
  if (plan.simt) {
    int64_t floats = 0;
    for (const Gather& g : plan.gathers) floats += packed_floats(plan.problem, g);
    plan.packed_bytes = static_cast<size_t>(floats) * sizeof(float);
  }
  const ConvProblem& p = plan.problem;
  const int64_t results =
      p.direction == Direction::forward ? p.batch * p.out_c * p.out_pixels() : p.batch * p.in_c * p.in_pixels();
  if (plan.splits > 1) plan.workspace_bytes = static_cast<size_t>(results * plan.splits) * sizeof(float);
}

void im2col_pack(const ConvPlan& plan, const void* w, void* packed, Stream& stream) {
  if (!plan.simt) return im2col_mma_pack(plan, w, packed, stream);
  auto* to = static_cast<float*>(packed);
  for (const Gather& gather : plan.gathers) {
    const int64_t count = packed_floats(plan.problem, gather);
    const int64_t grid = std::min((count + kPackThreads - 1) / kPackThreads, int64_t{1} << 20);
    launch("pack_weights", pack_weights, static_cast<unsigned>(grid), kPackThreads, 0, stream,
           device_gather(plan.problem, gather), static_cast<const float*>(w), to);
    to += count;
  }
}

void im2col_run(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace, Stream& stream) {
  if (plan.problem.direction == Direction::weight_gradient)
    return weight_gradient_run(plan, operands, workspace, stream);
  if (!plan.simt) return im2col_mma_run(plan, operands, workspace, stream);
  const ConvProblem& p = plan.problem;
  const bool forward = p.direction == Direction::forward;
  if (!covers_result(plan.gathers)) fill_uncovered(plan, operands, stream);
  const auto* packed = static_cast<const float*>(operands.packed);
  for (const Gather& gather : plan.gathers) {
    const DeviceGather g = plan.pooled ? pooled_gather(device_gather(p, gather)) : device_gather(p, gather);
    auto* const dst = static_cast<float*>(forward ? operands.y : operands.x);
    launch_simt(plan, {g, static_cast<const float*>(forward ? operands.x : operands.y), packed,
                       tile_result<float>(g, epilogue_of<float>(p, operands), dst, nullptr), stream});
    packed += packed_floats(p, gather);
  }
}

}  // namespace fastconv::cuda
