#include "plan.h"

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

// What the epilogues of the kernels here have.
Support epilogue_support(const ConvProblem& p) {
  if (p.has_residual) return {"adds no residual on CUDA"};
  if (p.activation != Activation::none && !is_clamp(p.activation))
    return {cat("activation='", name_of(p.activation), "' is not built for CUDA")};
  return {};
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

}  // namespace

ConvPlan make_plan(const ConvProblem& problem, const Device& device, Precision precision, const std::string& forced) {
  return make_plan(problem, device, precision, forced, element_of(problem.dtype));
}

ConvPlan make_plan(const ConvProblem& problem, const Device& device, Precision precision, const std::string& forced,
                   Element element) {
  const auto rows = cuda::size_of(element) == 2 ? half_algorithms() : algorithms();
  const bool by_cost = forced == "auto" || forced == "exact";
  const CudaAlgorithm* best = nullptr;
  double least = 0;
  bool known = by_cost;
  std::string reasons;
  for (const CudaAlgorithm& row : rows) {
    if (!by_cost && forced != row.name) continue;
    known = true;
    Support support = epilogue_support(problem);
    if (support.ok() && forced == "exact" && !row.exact) support = {"algorithm='exact' excludes amplified rounding"};
    if (support.ok()) support = row.supports(problem, device);
    if (!support.ok()) {
      reasons += cat("; ", row.name, ": ", support.reason);
      continue;
    }
    const double cost = row.cost(problem, device, 1);
    if (!best || cost < least) best = &row, least = cost;
  }
  if (!known) throw InvalidArgument(cat("algorithm='", forced, "': expected one of ", known_names(rows)));
  if (!best)
    throw Unsupported(
        cat("algorithm='", forced, "' cannot do ", problem.to_string(), " of ", name_of(element), " on CUDA", reasons));
  ConvPlan plan{problem, device, precision, best, make_gathers(problem), element};
  best->prepare(plan);
  return plan;
}

namespace {
size_t rounded(size_t bytes) { return (bytes + 255) / 256 * 256; }
}  // namespace

size_t scratch_bytes(const ConvPlan& plan, bool packed) {
  return (packed ? 0 : rounded(plan.packed_bytes)) + plan.workspace_bytes;
}

void run_plan(const ConvPlan& plan, ConvOperands operands, void* scratch, Stream& stream) {
  auto* bytes = static_cast<std::byte*>(scratch);
  if (plan.packed_bytes && !operands.packed) {
    plan.algorithm->pack(plan, operands.w, bytes, stream);
    operands.packed = bytes;
    bytes += rounded(plan.packed_bytes);
  }
  std::byte* const workspace = plan.workspace_bytes ? bytes : nullptr;
  plan.algorithm->run(plan, operands, workspace, stream);
}

void run_plan(const ConvPlan& plan, ConvOperands operands, Stream& stream) {
  const DeviceBuffer scratch(scratch_bytes(plan, operands.packed != nullptr), stream);
  run_plan(plan, operands, scratch.data(), stream);
}

}  // namespace fastconv::cuda
