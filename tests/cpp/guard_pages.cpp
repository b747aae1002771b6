// Every algorithm and direction over the cases of tests/cases.py, with every operand, the packed weights and the
// workspace flush against a forbidden page: an element read or written outside is a fault, and not a wrong number that
// nobody looks at. Results are compared with `reference`, on small integers: with ==, or within the bound of the row.
//
//   python tests/cases.py | guard_pages [most multiply-adds of a case [part parts]]
//
// of the cases each `parts`-th from `part` on.
//
// Exit status 0: all right. Prints what it ran, and on a fault what it was doing.
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "../../csrc/cpu/plan.h"
#include "guarded.h"

namespace {

using namespace fastconv;
using guard::Flush;
using guard::Memory;

char doing[512] = "starting";

void on_fault(int signal) {
  const char text[] = "fault while doing: ";
  (void)!write(STDERR_FILENO, text, sizeof text - 1);
  (void)!write(STDERR_FILENO, doing, strlen(doing));
  (void)!write(STDERR_FILENO, "\n", 1);
  _exit(128 + signal);
}

enum class Ask { forward, epilogue, transposed, input_gradient, weight_gradient };  // epilogue: with all of it
constexpr Ask kAsks[] = {Ask::forward, Ask::epilogue, Ask::transposed, Ask::input_gradient, Ask::weight_gradient};

struct Case {
  std::string name;
  int64_t batch, in_c, out_c, groups;
  bool bias;
  std::string activation;
  int axes;
  Shape size, kernel, stride, dilation, output_padding;
  std::vector<std::array<int64_t, 2>> padding;
};

// One line of `python tests/cases.py`.
Case case_from(const std::string& line) {
  std::istringstream in(line);
  Case c;
  in >> c.name >> c.batch >> c.in_c >> c.out_c >> c.groups >> c.bias >> c.activation >> c.axes;
  for (int i = 0; i < c.axes; ++i) {
    int64_t size, kernel, stride, dilation, low, high, extra;
    in >> size >> kernel >> stride >> dilation >> low >> high >> extra;
    c.size.push_back(size), c.kernel.push_back(kernel), c.stride.push_back(stride), c.dilation.push_back(dilation);
    c.padding.push_back({low, high}), c.output_padding.push_back(extra);
  }
  if (!in) {
    std::cerr << "not a case: " << line << '\n';
    std::exit(3);
  }
  return c;
}

Shape activation_shape(int64_t batch, int64_t channels, const Shape& space, Layout layout) {
  Shape shape{batch};
  if (layout == Layout::nchw) shape.push_back(channels);
  shape.insert(shape.end(), space.begin(), space.end());
  if (layout == Layout::nhwc) shape.push_back(channels);
  return shape;
}

ConvProblem problem_of(const Case& c, Ask ask, DType dtype, Layout layout) {
  ConvSpec spec;
  spec.spatial = c.axes;
  spec.dtype = dtype;
  spec.layout = layout;
  spec.groups = c.groups;
  spec.stride = c.stride, spec.dilation = c.dilation, spec.padding = c.padding;
  spec.w_shape = Shape{c.out_c, c.in_c / c.groups};
  spec.w_shape->insert(spec.w_shape->end(), c.kernel.begin(), c.kernel.end());
  spec.x_shape = activation_shape(c.batch, c.in_c, c.size, layout);
  if (ask == Ask::input_gradient || ask == Ask::transposed) spec.direction = Direction::input_gradient;
  if (ask == Ask::weight_gradient) spec.direction = Direction::weight_gradient;
  if (ask == Ask::forward || ask == Ask::transposed) {
    spec.activation = activation_from(c.activation);
    if (c.bias) spec.bias_shape = Shape{ask == Ask::forward ? c.out_c : c.in_c};
  }
  if (ask == Ask::epilogue) {
    spec.activation = Activation::hardswish;
    spec.bias_shape = Shape{c.out_c};
    spec.residual_shape = ConvProblem::make(spec).y_shape();
  }
  if (ask != Ask::transposed) return ConvProblem::make(spec);
  ConvSpec forward = spec;
  forward.direction = Direction::forward;
  forward.bias_shape.reset();
  spec.transposed = true;
  spec.y_shape = ConvProblem::make(forward).y_shape();
  spec.x_shape.reset();
  spec.output_padding = c.output_padding;
  return ConvProblem::make(spec);
}

size_t byte_count(const Shape& shape, DType dtype) {
  return static_cast<size_t>(TensorView{nullptr, dtype, shape}.elements()) * size_of(dtype);
}

// Integers from -4 to 4, from a generator whose seed is the operand's.
void fill(Memory& memory, DType dtype, uint32_t seed) {
  visit_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    T* const values = reinterpret_cast<T*>(memory.data());
    for (size_t i = 0; i < memory.bytes() / sizeof(T); ++i) {
      seed = seed * 1664525u + 1013904223u;  // Numerical Recipes' linear congruence
      values[i] = static_cast<T>(static_cast<int>(seed >> 16) % 9 - 4);
    }
  });
}

using Bytes = std::vector<unsigned char>;

// Packs and runs one plan with everything it touches behind guards. False, and a message, where it wrote outside.
bool run_guarded(const ConvPlan& plan, Flush flush, Bytes& result) {
  const ConvProblem& p = plan.problem;
  const size_t element = size_of(p.dtype);
  Memory x(byte_count(p.x_shape(), p.dtype), element, flush), w(byte_count(p.w_shape(), p.dtype), element, flush),
      y(byte_count(p.y_shape(), p.dtype), element, flush),
      bias(p.has_bias ? static_cast<size_t>(p.bias_length()) * element : 0, element, flush),
      residual(p.has_residual ? byte_count(p.y_shape(), p.dtype) : 0, element, flush),
      packed(plan.packed_bytes, 64, flush), workspace(plan.workspace_bytes, 64, flush);
  Memory& written = p.direction == Direction::forward ? y : p.direction == Direction::input_gradient ? x : w;
  uint32_t seed = 1;
  for (Memory* operand : {&x, &w, &y, &bias, &residual}) {
    if (operand != &written) fill(*operand, p.dtype, seed);
    ++seed;
  }
  Interrupt interrupt;
  ConvOperands operands{x.data(), w.data(),
                        y.data(), p.has_bias ? bias.data() : nullptr,
                        nullptr,  p.has_residual ? residual.data() : nullptr};
  if (plan.packed_bytes) {
    plan.algorithm->pack(plan, w.data(), packed.data(), interrupt);
    operands.packed = packed.data();
  }
  plan.algorithm->run(plan, operands, reinterpret_cast<std::byte*>(workspace.data()), interrupt);
  result.assign(written.data(), written.data() + written.bytes());
  for (const Memory* memory : {&x, &w, &y, &bias, &residual, &packed, &workspace})
    if (!memory->slack_untouched()) {
      std::cerr << "wrote outside: " << doing << '\n';
      return false;
    }
  return true;
}

// Within `allowed` of each other; NaN is not.
bool close(const Bytes& a, const Bytes& b, DType dtype, double allowed) {
  return a.size() == b.size() && visit_dtype(dtype, [&](auto zero) {
           using T = decltype(zero);
           const T *p = reinterpret_cast<const T*>(a.data()), *q = reinterpret_cast<const T*>(b.data());
           for (size_t i = 0; i < a.size() / sizeof(T); ++i)
             if (!(std::abs(static_cast<double>(p[i]) - static_cast<double>(q[i])) <= allowed)) return false;
           return true;
         });
}

// A row's bound is relative to the sum of the absolute terms: here at most 4 * 4 each, and the bias.
double allowed_error(const CpuAlgorithm& row, const ConvProblem& p) {
  const int64_t terms = p.direction == Direction::weight_gradient  ? p.batch * p.out_pixels()
                        : p.direction == Direction::input_gradient ? p.out_c_group() * p.taps()
                                                                   : p.in_c_group() * p.taps();
  const double largest = 16.0 * static_cast<double>(terms) + 8;
  // A curve rounds by itself (kernels/curve/curve.h), and is nowhere steeper than 1.5.
  return is_clamp(p.activation) || p.activation == Activation::none ? row.error * largest
                                                                    : (1.5 * row.error + 0x1p-22) * largest;
}

struct Counts {
  int64_t runs = 0, refused = 0, wrong = 0;
};

void test_problem(const std::string& name, const ConvProblem& p, Counts& counts) {
  Bytes expected, got;
  const Machine baseline = machine_with("baseline");
  if (!run_guarded(make_plan(p, baseline, 1, "reference"), Flush::back, expected)) ++counts.wrong;
  for (Isa isa : available_isas())
    for (const CpuAlgorithm& row : algorithms())
      for (int threads : {1, 2})
        for (Flush flush : {Flush::front, Flush::back}) {
          const Machine machine = machine_with(name_of(isa));
          std::snprintf(doing, sizeof doing, "%s %s %s %d threads flush %s: %s", name.c_str(), row.name, name_of(isa),
                        threads, flush == Flush::front ? "front" : "back", p.to_string().c_str());
          if (!row.supports(p, machine).ok()) {
            ++counts.refused;
            continue;
          }
          ++counts.runs;
          const ConvPlan plan = make_plan(p, machine, threads, row.name);
          if (!run_guarded(plan, flush, got)) ++counts.wrong;
          if (!close(got, expected, p.dtype, allowed_error(row, p))) {
            std::cerr << "differs from reference: " << doing << '\n';
            ++counts.wrong;
          }
        }
}

// The guards themselves: one byte before and one behind must be a fault, and a write into the slack must be seen.
bool guards_work() {
  for (Flush flush : {Flush::front, Flush::back}) {
    const pid_t child = fork();
    if (child == 0) {
      signal(SIGSEGV, SIG_DFL), signal(SIGBUS, SIG_DFL);
      const Memory memory(100, 4, flush);
      volatile unsigned char* const p = memory.data();
      (void)(flush == Flush::front ? p[-1] : p[100]);
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return false;
    Memory memory(100, 4, flush);
    if (!memory.slack_untouched()) return false;
    memory.data()[flush == Flush::front ? 100 : -1] = 0;
    if (memory.slack_untouched()) return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  fastconv::hold_serial_cycles(0);  // small problems meet several threads too
  const double most = argc > 1 ? std::atof(argv[1]) : 300e3;
  const int part = argc > 3 ? std::atoi(argv[2]) : 0, parts = argc > 3 ? std::max(1, std::atoi(argv[3])) : 1;
  signal(SIGSEGV, on_fault), signal(SIGBUS, on_fault);
  if (!guards_work()) {
    std::cerr << "the guards do not work on this system\n";
    return 3;
  }
  Counts counts;
  int cases = 0, number = 0;
  for (std::string line; std::getline(std::cin, line);) {
    if (number++ % parts != part) continue;
    const Case c = case_from(line);
    if (problem_of(c, Ask::forward, DType::float32, Layout::nchw).flops() / 2 > most) continue;
    ++cases;
    for (Ask ask : kAsks)
      for (DType dtype : {DType::float32, DType::float64})
        for (Layout layout : {Layout::nchw, Layout::nhwc})
          test_problem(c.name, problem_of(c, ask, dtype, layout), counts);
  }
  std::cout << cases << " cases, " << counts.runs << " runs, " << counts.refused << " refused, " << counts.wrong
            << " wrong\n";
  return counts.wrong == 0 && counts.runs > 0 ? 0 : 1;
}
