// ConvPlan on a GPU: what was decided about a ConvProblem (csrc/cpu/plan.h is its CPU counterpart).
//
// What a caller does, with a ConvProblem that ConvProblem::make has checked:
//   plan = make_plan(problem, this_device(), precision, algorithm)     pure: may be kept and shared
//   scratch = scratch_bytes(plan) bytes of device memory, aligned as device allocations are (may be 0)
//   run_plan(plan, operands, scratch, stream)                          queues launches and returns
// The second run_plan allocates scratch itself, from the pool of the stream. Neither waits for the device; the first
// makes no call but launches, as the capture of a graph asks for.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "../csrc/core/algorithm.h"
#include "../csrc/core/gather.h"
#include "../csrc/core/pool_problem.h"
#include "element.h"
#include "launch.h"

namespace fastconv::cuda {

// How float32 products are formed.
//   fp32       as accurate as float: split operands on tensor cores where they are, fused multiply-adds elsewhere
//   fp32_simt  fused multiply-adds only
//   tf32       operands rounded to 11 significant bits
enum class Precision : uint8_t { fp32, fp32_simt, tf32 };
Precision precision_from(const std::string& name);

struct Device {
  int arch = 80;  // 10 * major + minor
  int multiprocessors = 1;
};
Device this_device();

// What a row is asked for besides the problem: a device, and how products are formed there.
struct Target {
  Device device;
  Precision precision = Precision::fp32;
  Element element = Element::float32;
  bool pooled = false;  // the row stores maxima of 2 x 2 results, stride 2, and nothing else
  bool exact = false;   // the order of every sum is that of a batch of one
};

// Of the matrix loop nests: channels x pixels of a block.
enum class MatrixTile : uint8_t { large, medium, small };

struct ConvPlan;
using CudaAlgorithm = Algorithm<ConvPlan, Target, Stream>;

struct ConvPlan {
  ConvProblem problem;
  Device device;
  Precision precision = Precision::fp32;
  const CudaAlgorithm* algorithm = nullptr;
  std::vector<Gather> gathers;
  Element element = Element::float32;
  bool pooled = false;                // one kernel convolves and pools (Target)
  bool exact = false;                 // as in Target
  std::optional<PoolProblem> pool{};  // what is pooled after it by a kernel of its own; y is then in the scratch memory
  bool simt = false;                  // im2col: fused multiply-adds instead of tensor cores
  bool plain_matrix = false;          // pointwise: what is multiplied lies in memory as it is, in whole 16 bytes
  MatrixTile tile = MatrixTile::medium;
  int splits = 1;  // of the steps of a sum, whose partial sums are in the workspace
  size_t packed_bytes = 0;
  size_t workspace_bytes = 0;
  size_t weight_alignment = 1;  // of weights that are read in place, in bytes; elsewhere their elements' size is enough
};

Target target_of(const ConvPlan& plan);

// THE TABLE (algorithms.cpp), in the order that breaks ties.
std::span<const CudaAlgorithm> algorithms();
// Pure. `forced` is "auto", "exact" or a name; throws like make_plan of the CPU.
ConvPlan make_plan(const ConvProblem& problem, const Device& device, Precision precision, const std::string& forced);

// The same for arrays of another element: with float16 and bfloat16 the problem's dtype is not read, sums are in
// float32 whatever the precision, and bias is of the element too.
// With `pooled` operands.y takes max_pool2d(result, 2), the maxima of 2 x 2 windows with stride 2 (NaN passes, the last
// row or column of an odd extent is in no window), of shape pooled_shape(problem): in one kernel where a row can and
// that is estimated to take less, else in two. Forward, of two or three axes, with results of at least 2 x 2.
ConvPlan make_plan(const ConvProblem& problem, const Device& device, Precision precision, const std::string& forced,
                   Element element, bool pooled = false);
Shape pooled_shape(const ConvProblem& problem);

struct Candidate {
  const char* name;
  std::string reason;  // why it refuses, or empty
  double cycles = 0;   // its estimate
  size_t workspace_bytes = 0;
  bool chosen = false;
};

// Every row of the table with its cost or its reason.
std::vector<Candidate> explain(const ConvProblem& problem, const Device& device, Precision precision,
                               const std::string& forced, Element element, bool pooled = false);

// What x, y and residual have to be aligned to, in bytes; elsewhere and for all other rows their elements' size is
// enough.
size_t alignment_of(const ConvPlan& plan);

// For the packed weights, unless `packed` says that operands.packed will have them, and the algorithm's own workspace.
size_t scratch_bytes(const ConvPlan& plan, bool packed = false);

// Queues everything on the stream; the operands are device memory, contiguous in the problem's layout, aligned as their
// elements are, x, y and residual to alignment_of(plan), w to its weight_alignment (packed weights, scratch: 16 bytes).
void run_plan(const ConvPlan& plan, ConvOperands operands, void* scratch, Stream& stream);
void run_plan(const ConvPlan& plan, ConvOperands operands, Stream& stream);

}  // namespace fastconv::cuda
