// im2col on tensor cores, an implicit matrix product with sums in float: float16, bfloat16, and float32 as one or three
// products of tf32; forward and input gradient, any window, groups, both layouts. A pointwise convolution
// (pointwise.cpp) is the same product with one tap.
//
//   pack   w -> packed[phase][group][tap][dst_c][src_c rounded up to 16 bytes], zeros in the padding
//   run    for each phase (core/gather.h), for each block of the grid: kernels/mma_im2col.cuh
//          where the steps of a sum are split: finish_splits adds the partial sums in their order
// grid = (pixels of all images / N, dst_c / M, groups * splits). Which tile and how many splits: matrix_choice.h.
#include "../kernels/mma_im2col.cuh"
#include "algorithms.h"

namespace fastconv::cuda {
namespace {

constexpr int kPlainThreads = 128;

template <class T>
__global__ void __launch_bounds__(kPlainThreads) pack_rows(DeviceGather g, const T* w, T* packed) {
  constexpr int kChunkElements = 16 / static_cast<int>(sizeof(T));
  const int64_t row = (g.src_c + kChunkElements - 1) / kChunkElements * kChunkElements,
                count = g.groups * g.taps * g.dst_c * row;
  for (int64_t item = int64_t{blockIdx.x} * kPlainThreads + threadIdx.x; item < count;
       item += int64_t{gridDim.x} * kPlainThreads) {
    const int64_t from = item % row, to = item / row % g.dst_c, tap = item / row / g.dst_c % g.taps,
                  group = item / row / g.dst_c / g.taps;
    const int64_t tw = tap % g.w.taps, th = tap / g.w.taps % g.h.taps, td = tap / g.w.taps / g.h.taps;
    T value{};
    if (from < g.src_c)
      value = load_global(w + group * g.w_group + to * g.w_dst + from * g.w_src + g.w_base + td * g.d.w_stride +
                          th * g.h.w_stride + tw * g.w.w_stride);
    store_global(packed + item, value);
  }
}

template <class Op, int M, int N, class Source>
__global__ void __launch_bounds__(kMmaThreads, M == 128                                ? 2
                                               : OperandOf<Op>::kTerms == 3 && N == 64 ? 3
                                                                                       : 4)
    im2col_mma(DeviceGather g, const StorageOf<Op>* src, const StorageOf<Op>* packed, TileResult<ElementOf<Op>> result,
               int splits, int64_t elements) {
  const int groups = static_cast<int>(g.groups), group = static_cast<int>(blockIdx.z) % groups,
            split = static_cast<int>(blockIdx.z) / groups;
  if (result.partial) result.partial += split * elements;
  mma_im2col_block<Op, M, N, Source>(g, src, packed, result, split, splits, group);
}

// One thread per element of the phase: channels innermost where they are in memory.
template <class T>
__global__ void __launch_bounds__(kPlainThreads)
    finish_splits(DeviceGather g, TileResult<T> result, int splits, int64_t elements) {
  const int64_t channels = g.groups * g.dst_c, count = g.batch * channels * g.pixels;
  for (int64_t item = int64_t{blockIdx.x} * kPlainThreads + threadIdx.x; item < count;
       item += int64_t{gridDim.x} * kPlainThreads) {
    const int64_t channel = g.channels_last ? item % channels : item / g.pixels % channels,
                  pixel = g.channels_last ? item / channels % g.pixels : item % g.pixels,
                  image = item / channels / g.pixels;
    const int64_t jw = pixel % g.w.dst, jh = pixel / g.w.dst % g.h.dst, jd = pixel / g.w.dst / g.h.dst;
    const int64_t at = image * g.dst_image + channel * g.dst_channel + g.dst_base + jd * g.d.dst_stride +
                       jh * g.h.dst_stride + jw * g.w.dst_stride;
    float sum = load_global(result.partial + at);
    for (int split = 1; split < splits; ++split) sum += load_global(result.partial + split * elements + at);
    store_global(result.dst + at, ptx::narrow<T>(finished(result.epilogue, sum, channel, at)));
  }
}

int64_t chunk_elements(const ConvPlan& plan) { return 16 / static_cast<int64_t>(cuda::size_of(plan.element)); }

int64_t packed_elements(const ConvPlan& plan, const Gather& g) {
  const int64_t chunk = chunk_elements(plan);
  return plan.problem.groups * g.taps() * g.dst_c * ((g.src_c + chunk - 1) / chunk * chunk);
}

int64_t result_elements(const ConvProblem& p) {
  return p.direction == Direction::forward ? p.batch * p.out_c * p.out_pixels() : p.batch * p.in_c * p.in_pixels();
}

unsigned plain_blocks(int64_t items) {
  return static_cast<unsigned>(std::min((items + kPlainThreads - 1) / kPlainThreads, int64_t{1} << 20));
}

template <class Op>
struct Call {
  const ConvPlan& plan;
  const DeviceGather& g;
  const StorageOf<Op>* src;
  const StorageOf<Op>* packed;
  TileResult<ElementOf<Op>> result;
  Stream& stream;
};

template <class Op, int M, int N>
void launch_tile(const char* name, const Call<Op>& c) {
  const dim3 grid(static_cast<unsigned>((c.g.batch * c.g.pixels + N - 1) / N),
                  static_cast<unsigned>((c.g.dst_c + M - 1) / M), static_cast<unsigned>(c.g.groups * c.plan.splits));
  const bool last = c.g.channels_last, whole = aligned_16(c.src), vectors = whole && c.g.src_c % kChunk<Op> == 0,
             planes = whole && !last && c.plan.plain_matrix;
  const auto kernel = last && vectors ? im2col_mma<Op, M, N, VectorSource<Op, N>>
                      : planes        ? im2col_mma<Op, M, N, PlaneSource<Op, N>>
                                      : im2col_mma<Op, M, N, ElementSource<Op, N>>;
  const size_t shared = planes ? MmaShared<Op, M, N, true>::kBytes : MmaShared<Op, M, N, false>::kBytes;
  launch(name, kernel, grid, kMmaThreads, shared, c.stream, c.g, c.src, c.packed, c.result, c.plan.splits,
         result_elements(c.plan.problem));
}

template <class Op>
void run_phase(const Call<Op>& c) {
  switch (c.plan.tile) {
    case MatrixTile::large:
      if constexpr (OperandOf<Op>::kTerms == 3)
        launch_tile<Op, 128, 64>("im2col_mma_128x64", c);
      else
        launch_tile<Op, 128, 128>("im2col_mma_128x128", c);
      break;
    case MatrixTile::medium:
      launch_tile<Op, 64, 64>("im2col_mma_64x64", c);
      break;
    default:
      launch_tile<Op, 64, 32>("im2col_mma_64x32", c);
  }
  if (c.plan.splits == 1) return;
  launch("finish_splits", finish_splits<ElementOf<Op>>, plain_blocks(c.g.batch * c.g.groups * c.g.dst_c * c.g.pixels),
         kPlainThreads, 0, c.stream, c.g, c.result, c.plan.splits, result_elements(c.plan.problem));
}

template <class Op>
void run_all(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace, Stream& stream) {
  using T = ElementOf<Op>;
  const ConvProblem& p = plan.problem;
  const bool forward = p.direction == Direction::forward;
  if (!covers_result(plan.gathers)) fill_uncovered(plan, operands, stream);
  const auto* packed = static_cast<const StorageOf<Op>*>(operands.packed);
  for (const Gather& gather : plan.gathers) {
    const DeviceGather g = plan.pooled ? pooled_gather(device_gather(p, gather)) : device_gather(p, gather);
    auto* const dst = static_cast<T*>(forward ? operands.y : operands.x);
    const TileResult<T> result = tile_result<T>(g, epilogue_of<T>(p, operands), dst,
                                                plan.splits > 1 ? reinterpret_cast<float*>(workspace) : nullptr);
    run_phase<Op>(
        {plan, g, static_cast<const StorageOf<Op>*>(forward ? operands.x : operands.y), packed, result, stream});
    packed += packed_elements(plan, gather);
  }
}

template <class T>
void pack_all(const ConvPlan& plan, const void* w, void* packed, Stream& stream) {
  auto* to = static_cast<T*>(packed);
  for (const Gather& gather : plan.gathers) {
    const int64_t count = packed_elements(plan, gather);
    launch("pack_rows", pack_rows<T>, plain_blocks(count), kPlainThreads, 0, stream,
           device_gather(plan.problem, gather), static_cast<const T*>(w), to);
    to += count;
  }
}

}  // namespace

size_t im2col_mma_packed_bytes(const ConvPlan& plan) {
  int64_t elements = 0;
  for (const Gather& g : plan.gathers) elements += packed_elements(plan, g);
  return static_cast<size_t>(elements) * cuda::size_of(plan.element);
}

void im2col_mma_pack(const ConvPlan& plan, const void* w, void* packed, Stream& stream) {
  if (plan.element == Element::float32)
    pack_all<float>(plan, w, packed, stream);
  else
    pack_all<half16>(plan, w, packed, stream);  // only bits move: bfloat16 alike
}

void im2col_mma_run(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace, Stream& stream) {
  if (plan.element == Element::float16)
    run_all<half16>(plan, operands, workspace, stream);
  else if (plan.element == Element::bfloat16)
    run_all<bfloat16>(plan, operands, workspace, stream);
  else if (plan.precision == Precision::tf32)
    run_all<Tf32>(plan, operands, workspace, stream);
  else
    run_all<Tf32x3>(plan, operands, workspace, stream);
}

}  // namespace fastconv::cuda
