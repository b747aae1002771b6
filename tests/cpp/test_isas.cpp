// Every ISA x algorithm x direction x dtype x layout against the reference nest, on small integers, where sums are
// exact in any order and results must be equal, or within the bound of the row. Needs no Python, so that it also runs
// cross-compiled in an emulator.
#include <cmath>
#include <cstdio>
#include <cstring>

#include "../../csrc/cpu/plan.h"

namespace fastconv {
namespace {

struct Case {
  const char* name;
  Shape x, w;  // NCHW
  int64_t stride, padding, dilation, groups;
};

const Case kCases[] = {
    {"plain", {2, 16, 12, 20}, {24, 16, 3, 3}, 1, 1, 1, 1},
    {"tails", {1, 7, 13, 17}, {19, 7, 3, 3}, 1, 0, 1, 1},
    {"stride", {2, 5, 15, 18}, {33, 5, 5, 3}, 2, 2, 1, 1},
    {"gaps", {1, 6, 14, 14}, {6, 6, 1, 1}, 3, 0, 1, 1},
    {"dilation", {1, 4, 16, 16}, {9, 4, 3, 3}, 1, 2, 2, 1},
    {"groups", {2, 12, 9, 9}, {8, 3, 3, 3}, 1, 1, 1, 4},
    {"depthwise", {1, 18, 11, 23}, {18, 1, 3, 3}, 1, 1, 1, 18},
    {"pointwise", {3, 40, 7, 9}, {50, 40, 1, 1}, 1, 0, 1, 1},
    {"one channel", {2, 1, 28, 28}, {25, 1, 3, 3}, 1, 0, 1, 1},
};

struct Array {
  std::vector<std::byte> bytes;
  Array(const Shape& shape, DType dtype, uint32_t seed) {
    int64_t count = 1;
    for (int64_t extent : shape) count *= extent;
    bytes.resize(static_cast<size_t>(count) * size_of(dtype));
    visit_dtype(dtype, [&](auto zero) {
      using T = decltype(zero);
      T* const data = reinterpret_cast<T*>(bytes.data());
      for (int64_t i = 0; i < count; ++i) {
        seed = seed * 1664525u + 1013904223u;  // Numerical Recipes, 2nd edition, section 7.1
        data[i] = static_cast<T>(static_cast<int>(seed >> 29) - 3);
      }
    });
  }
  void* data() { return bytes.data(); }
};

ConvSpec spec_of(const Case& c, Direction direction, DType dtype, Layout layout) {
  ConvSpec spec;
  spec.dtype = dtype;
  spec.layout = layout;
  spec.groups = c.groups;
  spec.stride = {c.stride};
  spec.dilation = {c.dilation};
  spec.padding = {{c.padding, c.padding}};
  spec.x_shape = layout == Layout::nchw ? c.x : Shape{c.x[0], c.x[2], c.x[3], c.x[1]};
  spec.w_shape = c.w;
  if (direction == Direction::forward) {
    spec.bias_shape = Shape{c.w[0]};
    spec.activation = Activation::relu;
  } else {
    spec.y_shape = ConvProblem::make(spec).y_shape();
  }
  spec.direction = direction;
  return spec;
}

// The result of one algorithm on one machine.
std::vector<std::byte> result_of(const ConvProblem& p, const Machine& machine, int threads, const char* algorithm) {
  const ConvPlan plan = make_plan(p, machine, threads, algorithm);
  Array x(p.x_shape(), p.dtype, 1), w(p.w_shape(), p.dtype, 2), y(p.y_shape(), p.dtype, 3);
  Array bias(Shape{p.bias_length()}, p.dtype, 4);
  run_plan(plan, {x.data(), w.data(), y.data(), p.has_bias ? bias.data() : nullptr}, nullptr);
  switch (p.direction) {
    case Direction::forward:
      return y.bytes;
    case Direction::input_gradient:
      return x.bytes;
    default:
      return w.bytes;
  }
}

struct Count {
  int compared = 0, wrong = 0;
};

// Equal as numbers, -0 and 0 are; or within `allowed` of each other.
bool same(const std::vector<std::byte>& a, const std::vector<std::byte>& b, DType dtype, double allowed) {
  return visit_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    for (size_t at = 0; at < a.size(); at += sizeof(T)) {
      T left, right;
      std::memcpy(&left, a.data() + at, sizeof(T));
      std::memcpy(&right, b.data() + at, sizeof(T));
      if (!(std::abs(static_cast<double>(left) - static_cast<double>(right)) <= allowed)) return false;
    }
    return a.size() == b.size();
  });
}

void compare(const Case& c, const ConvProblem& problem, Count& count) {
  // A row's bound is relative to the sum of the absolute terms: here at most 4 * 4 each, and the bias.
  const int64_t channels = problem.direction == Direction::forward ? problem.in_c_group() : problem.out_c_group();
  const double largest = 16.0 * static_cast<double>(channels * problem.taps()) + 4;
  const auto expected = result_of(problem, machine_with("baseline"), 1, "reference");
  for (Isa isa : available_isas()) {
    const Machine machine = machine_with(name_of(isa));
    for (const CpuAlgorithm& row : algorithms()) {
      if (!row.supports(problem, machine).ok()) continue;
      for (int threads : {1, 3}) {
        ++count.compared;
        if (same(result_of(problem, machine, threads, row.name), expected, problem.dtype, row.error * largest))
          continue;
        ++count.wrong;
        std::printf("WRONG %s: %s on %s, %d threads: %s\n", c.name, row.name, name_of(isa), threads,
                    problem.to_string().c_str());
      }
    }
  }
}

}  // namespace
}  // namespace fastconv

int main() {
  fastconv::hold_serial_cycles(0);  // small problems meet several threads too
  using namespace fastconv;
  Count count;
  for (const Case& c : kCases)
    for (Direction direction : {Direction::forward, Direction::input_gradient, Direction::weight_gradient})
      for (DType dtype : {DType::float32, DType::float64})
        for (Layout layout : {Layout::nchw, Layout::nhwc})
          compare(c, ConvProblem::make(spec_of(c, direction, dtype, layout)), count);
  std::printf("%d results compared with the reference, %d wrong; ISAs:", count.compared, count.wrong);
  for (Isa isa : available_isas()) std::printf(" %s", name_of(isa));
  std::printf("\n");
  return count.wrong != 0 || count.compared == 0;
}
