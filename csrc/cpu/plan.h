// ConvPlan: what was decided about a ConvProblem. The plan that packs the weights is the plan that reads them.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "../core/algorithm.h"
#include "../core/gather.h"
#include "blocking.h"
#include "machine.h"
#include "parallel.h"

namespace fastconv {

struct ConvPlan;
using CpuAlgorithm = Algorithm<ConvPlan, Machine, Interrupt>;

struct ConvPlan {
  ConvProblem problem;
  Machine machine;
  int threads = 1;
  const CpuAlgorithm* algorithm = nullptr;
  std::vector<Gather> gathers;  // of the forward and input_gradient directions
  Blocking blocking;
  size_t packed_bytes = 0;
  bool packs_in_run = false;  // without prepared weights: panel by panel where they are read, not all beforehand
  size_t workspace_bytes = 0;
  std::shared_ptr<const ConvPlan> single;  // of 16-bit elements: the plan in float32 that does the work (half.h)
};

// The first item of a share of the items of all gathers, of `shares` with as much to multiply: phases of an input
// gradient, and so their items, have different numbers of taps.
int64_t first_item_of_share(const ConvPlan& plan, int share, int shares);

// f(item, thread) for the items of all gathers.
template <class F>
void parallel_items(const ConvPlan& plan, Interrupt& interrupt, const F& f) {
  const int shares = static_cast<int>(std::min<int64_t>(plan.threads, plan.blocking.items));
  const auto begin = [&plan, shares](int share) { return first_item_of_share(plan, share, shares); };
  parallel_shares(shares, interrupt, begin, f);
}

// THE TABLE (algorithms.cpp), in the order that breaks ties.
std::span<const CpuAlgorithm> algorithms();

// Pure: the same arguments give the same plan. `forced` is "auto", "exact" or a name out of algorithms();
// `prepared`: the weights are packed once for many calls, so that "auto" leaves that cost out.
// Throws InvalidArgument for an unknown name and Unsupported, with each reason, where nothing fits.
ConvPlan make_plan(const ConvProblem& problem, const Machine& machine, int threads, const std::string& forced,
                   bool prepared = false);

// Plans estimated below this many cycles run on one thread; negative: back to the default. For tests, which set 0 so
// that small problems meet several threads.
void hold_serial_cycles(double cycles);
double held_serial_cycles();

// make_plan, kept for the next call: at most kCachedPlans, the least recently used goes first.
std::shared_ptr<const ConvPlan> cached_plan(const ConvProblem& problem, const Machine& machine, int threads,
                                            const std::string& forced, bool prepared = false);

struct Candidate {
  const char* name;
  std::string reason;  // why it refuses, or empty
  double cycles = 0;   // its estimate
  size_t workspace_bytes = 0;
  bool chosen = false;
};

// Every row of the table with its cost or its reason.
std::vector<Candidate> explain(const ConvProblem& problem, const Machine& machine, int threads,
                               const std::string& forced, bool prepared = false);

// Packs the weights of a plan into packed_bytes of memory.
void pack_weights(const ConvPlan& plan, const void* w, void* packed, Interrupt& interrupt);

// Runs a plan: takes the workspace, packs the weights unless operands.packed holds them. False: interrupted.
bool run_plan(const ConvPlan& plan, ConvOperands operands, Interrupt::Poll poll);

}  // namespace fastconv
