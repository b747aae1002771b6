#include "half.h"

#include <algorithm>

namespace fastconv {
namespace {

// Elements converted by an item: some microseconds.
constexpr int64_t kItem = 32 * 1024;

const HalfKernel& kernel_of(DType type) {
  const HalfKernels& kernels = kernels_for(this_machine().isa).half;
  return type == DType::float16 ? kernels.float16 : kernels.bfloat16;
}

// f(begin, end) over ranges of `count` elements.
template <class F>
void in_ranges(int64_t count, int threads, Interrupt& interrupt, const F& f) {
  parallel_for(ceil_div(count, kItem), threads, interrupt,
               [&](int64_t item, int) { f(item * kItem, std::min(count, (item + 1) * kItem)); });
}

int64_t x_image(const ConvProblem& p) { return p.in_c * p.in_pixels(); }
int64_t y_image(const ConvProblem& p) { return p.out_c * p.out_pixels(); }

// The arrays in float32, and what the plan in float32 works in.
struct Wide {
  float *x, *y, *w, *part, *bias;
  std::byte* workspace;
  Wide(Carver& carver, const ConvPlan& plan) {
    const ConvPlan& single = *plan.single;
    const ConvProblem& p = single.problem;
    x = carver.take<float>(p.batch * x_image(p));
    y = carver.take<float>(p.batch * y_image(p));
    w = carver.take<float>(p.weight_elements());
    part = carver.take<float>(p.direction == Direction::weight_gradient ? p.weight_elements() : 0);
    bias = carver.take<float>(p.has_bias ? p.bias_length() : 0);
    workspace = carver.take<std::byte>(static_cast<int64_t>(single.workspace_bytes));
  }
};

const uint16_t* from_image(const void* array, int64_t elements) {
  return static_cast<const uint16_t*>(array) + elements;
}

// Weights as the plan in float32 reads them: as a plan of Python's has packed them, or packed here.
Buffer read_weights(const ConvPlan& plan, const ConvOperands& operands, const Wide& wide, ConvOperands& inner,
                    Interrupt& interrupt) {
  const ConvPlan& single = *plan.single;
  if (operands.packed) {
    if (single.packed_bytes)
      inner.packed = operands.packed;
    else
      inner.w = const_cast<void*>(operands.packed);  // read only, in these directions
    return {};
  }
  inner.w = wide.w;
  widen(plan.problem.dtype, operands.w, wide.w, plan.problem.weight_elements(), plan.threads, interrupt);
  if (single.packed_bytes == 0 || single.packed_bytes > kPackedScratchBytes) return {};
  Buffer packed(single.packed_bytes);
  single.algorithm->pack(single, wide.w, packed.data(), interrupt);
  inner.packed = packed.data();
  return packed;
}

}  // namespace

int64_t images_together(int64_t batch, double bytes_of_image, const Machine& machine) {
  // The last level's cache is shared with others, and with the arrays on their way through it.
  const double fit = static_cast<double>(machine.l3_bytes) / 8 / std::max(1.0, bytes_of_image);
  int64_t images = std::clamp<int64_t>(static_cast<int64_t>(std::min(fit, 1e9)), 1, std::max<int64_t>(1, batch));
  while (batch % images != 0) --images;
  return images;
}

ConvProblem computed_as(const ConvProblem& problem, const Machine& machine) {
  ConvProblem p = problem;
  if (!is_half(p.dtype)) return p;
  p.dtype = DType::float32;
  const double elements = static_cast<double>(x_image(p)) + static_cast<double>(y_image(p));
  if (p.batch > 0) p.batch = images_together(p.batch, elements * sizeof(float), machine);
  return p;
}

ConvPlan half_plan(const ConvProblem& problem, ConvPlan single) {
  ConvPlan plan;
  plan.problem = problem;
  plan.machine = single.machine;
  plan.threads = single.threads;
  plan.algorithm = single.algorithm;
  plan.packed_bytes = single.packed_bytes;
  if (plan.packed_bytes == 0 && problem.direction != Direction::weight_gradient)
    plan.packed_bytes = static_cast<size_t>(problem.weight_elements()) * sizeof(float);
  plan.single = std::make_shared<const ConvPlan>(std::move(single));
  Carver carver(nullptr);
  const Wide wide(carver, plan);
  plan.workspace_bytes = carver.used();
  return plan;
}

void pack_half(const ConvPlan& plan, const void* w, void* packed, Interrupt& interrupt) {
  const ConvPlan& single = *plan.single;
  const int64_t count = plan.problem.weight_elements();
  if (single.packed_bytes == 0) {
    widen(plan.problem.dtype, w, static_cast<float*>(packed), count, plan.threads, interrupt);
    return;
  }
  const Buffer wide(static_cast<size_t>(count) * sizeof(float));
  widen(plan.problem.dtype, w, static_cast<float*>(wide.data()), count, plan.threads, interrupt);
  single.algorithm->pack(single, wide.data(), packed, interrupt);
}

void run_half(const ConvPlan& plan, const ConvOperands& operands, Interrupt& interrupt) {
  const ConvPlan& single = *plan.single;
  const ConvProblem& p = plan.problem;
  const DType type = p.dtype;
  const int threads = plan.threads;
  const Workspace workspace(plan.workspace_bytes);
  Carver carver(workspace.data());
  const Wide wide(carver, plan);
  ConvOperands inner;
  inner.x = wide.x, inner.y = wide.y;
  Buffer packed;
  if (p.direction != Direction::weight_gradient) packed = read_weights(plan, operands, wide, inner, interrupt);
  if (operands.bias) {
    widen(type, operands.bias, wide.bias, p.bias_length(), 1, interrupt);
    inner.bias = wide.bias;
  }
  const int64_t images = single.problem.batch, xs = images * x_image(p), ys = images * y_image(p);
  for (int64_t image = 0; image < p.batch && !interrupt.stopped(); image += images) {
    const int64_t x_at = image * x_image(p), y_at = image * y_image(p);
    if (p.direction != Direction::input_gradient)
      widen(type, from_image(operands.x, x_at), wide.x, xs, threads, interrupt);
    if (p.direction != Direction::forward) widen(type, from_image(operands.y, y_at), wide.y, ys, threads, interrupt);
    if (operands.residual) {  // where the result will be
      widen(type, from_image(operands.residual, y_at), wide.y, ys, threads, interrupt);
      inner.residual = wide.y;
    }
    if (p.direction == Direction::weight_gradient) inner.w = image == 0 ? wide.w : wide.part;
    single.algorithm->run(single, inner, wide.workspace, interrupt);
    if (p.direction == Direction::forward)
      narrow(type, wide.y, static_cast<uint16_t*>(operands.y) + y_at, ys, threads, interrupt);
    if (p.direction == Direction::input_gradient)
      narrow(type, wide.x, static_cast<uint16_t*>(operands.x) + x_at, xs, threads, interrupt);
    if (p.direction == Direction::weight_gradient && image > 0)
      for (int64_t i = 0; i < p.weight_elements(); ++i) wide.w[i] += wide.part[i];
  }
  if (p.direction == Direction::weight_gradient)
    narrow(type, wide.w, operands.w, p.weight_elements(), threads, interrupt);
}

void widen(DType type, const void* from, float* to, int64_t count, int threads, Interrupt& interrupt) {
  const HalfKernel& kernel = kernel_of(type);
  in_ranges(count, threads, interrupt, [&](int64_t begin, int64_t end) {
    kernel.widen(static_cast<const uint16_t*>(from) + begin, to + begin, end - begin);
  });
}

void narrow(DType type, const float* from, void* to, int64_t count, int threads, Interrupt& interrupt) {
  const HalfKernel& kernel = kernel_of(type);
  in_ranges(count, threads, interrupt, [&](int64_t begin, int64_t end) {
    kernel.narrow(from + begin, static_cast<uint16_t*>(to) + begin, end - begin);
  });
}

}  // namespace fastconv
