#include "plan.h"

#include <algorithm>
#include <string_view>

#include "matrix_choice.h"
#include "pool.h"

namespace fastconv::cuda {

Precision precision_from(const std::string& name) {
  if (name == "fp32") return Precision::fp32;
  if (name == "fp32-simt") return Precision::fp32_simt;
  if (name == "tf32") return Precision::tf32;
  throw InvalidArgument(cat("precision='", name, "': expected 'fp32', 'fp32-simt' or 'tf32'"));
}

Device this_device() {
  int device = 0, major = 0, minor = 0;
  Device found;
  check(cudaGetDevice(&device), "asking for the current device");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "asking for the architecture");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "asking for the architecture");
  check(cudaDeviceGetAttribute(&found.multiprocessors, cudaDevAttrMultiProcessorCount, device),
        "asking for the number of multiprocessors");
  found.arch = 10 * major + minor;
  return found;
}

namespace {

// Rows that no run on a device has shown to be right yet (../benchmarks/device_check.sh): taken by name, never chosen.
constexpr std::string_view kUnproven[] = {"im2col_wgmma"};

// Rows whose instructions read and write 16 bytes and nothing less.
constexpr std::string_view kAligned[] = {"im2col_wgmma"};

bool is_unproven(const CudaAlgorithm& row) {
  return std::find(std::begin(kUnproven), std::end(kUnproven), row.name) != std::end(kUnproven);
}

std::string known_names(std::span<const CudaAlgorithm> rows) {
  std::string names = "'auto', 'exact'";
  for (const CudaAlgorithm& row : rows) names += cat(", '", row.name, "'");
  return names;
}

// Memory of the stream's pool for the length of a call.
class DeviceBuffer {
 public:
  DeviceBuffer(size_t bytes, Stream& stream) : stream_(stream) {
    if (bytes) check(cudaMallocAsync(&data_, bytes, stream.handle), "allocating workspace");
  }
  DeviceBuffer(const DeviceBuffer&) = delete;
  ~DeviceBuffer() {
    if (data_) cudaFreeAsync(data_, stream_.handle);
  }
  void* data() const { return data_; }

 private:
  Stream& stream_;
  void* data_ = nullptr;
};

// An estimate of a row that supports the problem, with the kernel that pools its result after it.
struct Estimate {
  Support support;
  double cycles = 0;
  bool fused = false;
};

double pool_cycles(const ConvProblem& p, const Target& t) {
  const double elements = static_cast<double>(p.batch * p.out_c) * static_cast<double>(p.out_pixels());
  return kLaunchCycles + memory_cycles(1.25 * elements * static_cast<double>(size_of(t.element)), t);
}

Estimate estimate(const CudaAlgorithm& row, const ConvProblem& problem, const Target& target, bool pooled,
                  bool by_cost) {
  if (by_cost && is_unproven(row)) return {{"it has not run on a device yet, and is taken by its name alone"}};
  if (target.exact && !row.exact) return {{"algorithm='exact' excludes amplified rounding"}};
  ConvProblem p = problem;
  if (target.exact) p.batch = 1;  // the row that one image takes, whatever the batch
  Estimate separate{row.supports(problem, target)};
  if (separate.support.ok()) separate.cycles = row.cost(p, target, 1);
  if (!pooled) return separate;
  if (separate.support.ok()) separate.cycles += pool_cycles(p, target);
  Target whole = target;
  whole.pooled = true;
  Estimate fused{row.supports(problem, whole), 0, true};
  if (fused.support.ok()) fused.cycles = row.cost(p, whole, 1);
  if (!fused.support.ok() || (separate.support.ok() && separate.cycles < fused.cycles)) return separate;
  return fused;
}

PoolProblem pool_of(const ConvProblem& p) {
  if (p.direction != Direction::forward || p.spatial < 2 || p.h().out < 2 || p.w().out < 2)
    throw InvalidArgument(cat(p.to_string(), " with pooling: expected a forward convolution of two or three axes with ",
                              "results of at least 2 x 2"));
  PoolSpec spec;
  spec.layout = p.layout, spec.spatial = p.spatial, spec.x_shape = p.y_shape();
  spec.kernel = p.spatial == 3 ? Shape{1, 2, 2} : Shape{2, 2};
  return PoolProblem::make(spec);
}

ConvPlan prepared(const CudaAlgorithm& row, const ConvProblem& problem, const Target& t, const Estimate& estimate,
                  const std::optional<PoolProblem>& pool) {
  ConvPlan plan{problem, t.device, t.precision, &row, make_gathers(problem), t.element};
  plan.exact = t.exact, plan.pooled = estimate.fused;
  if (!estimate.fused) plan.pool = pool;
  row.prepare(plan);
  return plan;
}

size_t rounded(size_t bytes) { return (bytes + 255) / 256 * 256; }

size_t unpooled_bytes(const ConvPlan& plan) {
  const ConvProblem& p = plan.problem;
  return plan.pool ? rounded(static_cast<size_t>(p.batch * p.out_c * p.out_pixels()) * size_of(plan.element)) : 0;
}

}  // namespace

Target target_of(const ConvPlan& plan) { return {plan.device, plan.precision, plan.element, plan.pooled, plan.exact}; }

Shape pooled_shape(const ConvProblem& problem) { return pool_of(problem).y_shape(); }

ConvPlan make_plan(const ConvProblem& problem, const Device& device, Precision precision, const std::string& forced) {
  return make_plan(problem, device, precision, forced, element_of(problem.dtype));
}

ConvPlan make_plan(const ConvProblem& problem, const Device& device, Precision precision, const std::string& forced,
                   Element element, bool pooled) {
  const Target target{device, precision, element, false, forced == "exact"};
  std::optional<PoolProblem> pool;
  if (pooled) pool = pool_of(problem);
  const bool by_cost = forced == "auto" || forced == "exact";
  const CudaAlgorithm* best = nullptr;
  Estimate least;
  bool known = by_cost;
  std::string reasons;
  for (const CudaAlgorithm& row : algorithms()) {
    if (!by_cost && forced != row.name) continue;
    known = true;
    const Estimate found = estimate(row, problem, target, pooled, by_cost);
    if (!found.support.ok())
      reasons += cat("; ", row.name, ": ", found.support.reason);
    else if (!best || found.cycles < least.cycles)
      best = &row, least = found;
  }
  if (!known) throw InvalidArgument(cat("algorithm='", forced, "': expected one of ", known_names(algorithms())));
  if (!best)
    throw Unsupported(
        cat("algorithm='", forced, "' cannot do ", problem.to_string(), " of ", name_of(element), " on CUDA", reasons));
  return prepared(*best, problem, target, least, pool);
}

std::vector<Candidate> explain(const ConvProblem& problem, const Device& device, Precision precision,
                               const std::string& forced, Element element, bool pooled) {
  const Target target{device, precision, element, false, forced == "exact"};
  const ConvPlan chosen = make_plan(problem, device, precision, forced, element, pooled);
  std::optional<PoolProblem> pool;
  if (pooled) pool = pool_of(problem);
  const bool by_cost = forced == "auto" || forced == "exact";
  std::vector<Candidate> candidates;
  for (const CudaAlgorithm& row : algorithms()) {
    const Estimate found = estimate(row, problem, target, pooled, by_cost);
    Candidate candidate{row.name, found.support.reason, found.cycles};
    if (found.support.ok()) {
      const ConvPlan plan = prepared(row, problem, target, found, pool);
      candidate.workspace_bytes = plan.workspace_bytes + unpooled_bytes(plan);
    }
    candidate.chosen = &row == chosen.algorithm;
    candidates.push_back(std::move(candidate));
  }
  return candidates;
}

size_t alignment_of(const ConvPlan& plan) {
  return std::find(std::begin(kAligned), std::end(kAligned), plan.algorithm->name) != std::end(kAligned) ? 16 : 1;
}

size_t scratch_bytes(const ConvPlan& plan, bool packed) {
  return unpooled_bytes(plan) + (packed ? 0 : rounded(plan.packed_bytes)) + plan.workspace_bytes;
}

void run_plan(const ConvPlan& plan, ConvOperands operands, void* scratch, Stream& stream) {
  auto* bytes = static_cast<std::byte*>(scratch);
  void* const pooled = operands.y;
  if (plan.pool) operands.y = bytes, bytes += unpooled_bytes(plan);
  if (plan.packed_bytes && !operands.packed) {
    plan.algorithm->pack(plan, operands.w, bytes, stream);
    operands.packed = bytes;
    bytes += rounded(plan.packed_bytes);
  }
  std::byte* const workspace = plan.workspace_bytes ? bytes : nullptr;
  plan.algorithm->run(plan, operands, workspace, stream);
  if (plan.pool) run_pool(*plan.pool, plan.element, operands.y, pooled, nullptr, stream);
}

void run_plan(const ConvPlan& plan, ConvOperands operands, Stream& stream) {
  const DeviceBuffer scratch(scratch_bytes(plan, operands.packed != nullptr), stream);
  run_plan(plan, operands, scratch.data(), stream);
}

}  // namespace fastconv::cuda
