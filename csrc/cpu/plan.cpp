#include "plan.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <list>
#include <mutex>

#include "buffer.h"
#include "half.h"

namespace fastconv {
namespace {

Support support_of(const CpuAlgorithm& row, const ConvProblem& problem, const Machine& machine, bool exact_only) {
  if (exact_only && !row.exact) return {"algorithm='exact' excludes amplified rounding"};
  return row.supports(problem, machine);
}

// What the choice goes by. Algorithms add in different orders: for results that are bitwise the same for any number
// of threads, and with "exact" for any batch, the choice must not depend on either. One thread's cycles it is.
double cost_of(const CpuAlgorithm& row, ConvProblem problem, const Machine& machine, const std::string& forced,
               bool prepared) {
  if (forced == "exact") problem.batch = std::min<int64_t>(problem.batch, 1);
  return row.cost(problem, machine, 1) + (row.pack_cost && !prepared ? row.pack_cost(problem, machine) : 0);
}

// A parallel region costs about 3 us on a waiting pool, 12000 cycles; two threads gain from four times that on.
constexpr double kSerialCycles = 50000;
std::atomic<double> serial_cycles{kSerialCycles};

std::string known_names() {
  std::string names = "'auto', 'exact'";
  for (const CpuAlgorithm& row : algorithms()) names += cat(", '", row.name, "'");
  return names;
}

ConvPlan prepared(const CpuAlgorithm& row, const ConvProblem& problem, const Machine& machine, int threads) {
  ConvPlan plan;
  plan.problem = problem;
  plan.machine = machine;
  plan.threads =
      cost_of(row, problem, machine, "auto", true) < serial_cycles.load(std::memory_order_relaxed) ? 1 : threads;
  plan.algorithm = &row;
  plan.gathers = make_gathers(problem);
  row.prepare(plan);
  return plan;
}

// The scratch that the rules of the project allow; a problem beyond it goes to a row that needs less.
Support fits(const ConvPlan& plan) {
  const size_t limit = kScratchBytes + static_cast<size_t>(plan.threads) * kThreadScratchBytes;
  if (plan.workspace_bytes <= limit) return {};
  return {cat("needs ", plan.workspace_bytes >> 20, " MB of workspace: at most ", limit >> 20, " MB are taken")};
}

}  // namespace

ConvPlan make_plan(const ConvProblem& problem, const Machine& machine, int threads, const std::string& forced,
                   bool prepared_weights) {
  const ConvProblem computed = computed_as(problem, machine);
  const bool by_cost = forced == "auto" || forced == "exact";
  bool known = by_cost;
  std::string reasons;
  std::vector<std::pair<double, const CpuAlgorithm*>> rows;
  for (const CpuAlgorithm& row : algorithms()) {
    if (!by_cost && forced != row.name) continue;
    known = true;
    const Support support = support_of(row, computed, machine, forced == "exact");
    if (support.ok())
      rows.emplace_back(cost_of(row, computed, machine, forced, prepared_weights), &row);
    else
      reasons += cat("; ", row.name, ": ", support.reason);
  }
  if (!known) throw InvalidArgument(cat("algorithm=", quoted(forced), ": expected one of ", known_names()));
  std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [cycles, row] : rows) {
    ConvPlan plan = prepared(*row, computed, machine, threads);
    const Support support = fits(plan);
    if (support.ok()) return is_half(problem.dtype) ? half_plan(problem, std::move(plan)) : plan;
    reasons += cat("; ", row->name, ": ", support.reason);
  }
  throw Unsupported(cat("algorithm='", forced, "' cannot do ", problem.to_string(), reasons));
}

double held_serial_cycles() { return serial_cycles.load(std::memory_order_relaxed); }
void hold_serial_cycles(double cycles) { serial_cycles.store(cycles < 0 ? kSerialCycles : cycles); }

std::vector<Candidate> explain(const ConvProblem& problem, const Machine& machine, int threads,
                               const std::string& forced, bool prepared_weights) {
  const CpuAlgorithm* chosen = make_plan(problem, machine, threads, forced, prepared_weights).algorithm;
  const ConvProblem computed = computed_as(problem, machine);
  std::vector<Candidate> candidates;
  for (const CpuAlgorithm& row : algorithms()) {
    Candidate candidate{row.name, support_of(row, computed, machine, forced == "exact").reason};
    if (candidate.reason.empty()) {
      const double times = computed.batch == 0 ? 1 : static_cast<double>(problem.batch / computed.batch);
      candidate.cycles = cost_of(row, computed, machine, forced, prepared_weights) * times;
      const ConvPlan plan = prepared(row, computed, machine, threads);
      candidate.workspace_bytes = plan.workspace_bytes;
      candidate.reason = fits(plan).reason;
    }
    candidate.chosen = &row == chosen;
    candidates.push_back(std::move(candidate));
  }
  return candidates;
}

namespace {

// Enough for the layers of a few large networks; a plan is about a kilobyte.
constexpr size_t kCachedPlans = 512;

struct PlanCache {
  struct Entry {
    ConvProblem problem;
    Isa isa;
    int threads;
    double serial;
    std::string forced;
    bool prepared;
    size_t hash;
    std::shared_ptr<const ConvPlan> plan;
  };
  std::mutex mutex;
  std::list<Entry> entries;  // most recently used first
};

PlanCache& plan_cache() {
  static PlanCache* const cache = new PlanCache;  // never destroyed: threads may outlive main
  return *cache;
}

}  // namespace

std::shared_ptr<const ConvPlan> cached_plan(const ConvProblem& problem, const Machine& machine, int threads,
                                            const std::string& forced, bool prepared_weights) {
  PlanCache& cache = plan_cache();
  const size_t hash = problem.hash();
  const double serial = serial_cycles.load(std::memory_order_relaxed);
  {
    const std::lock_guard lock(cache.mutex);
    for (auto entry = cache.entries.begin(); entry != cache.entries.end(); ++entry)
      if (entry->hash == hash && entry->threads == threads && entry->isa == machine.isa && entry->serial == serial &&
          entry->prepared == prepared_weights && entry->forced == forced && entry->problem == problem) {
        cache.entries.splice(cache.entries.begin(), cache.entries, entry);
        return entry->plan;
      }
  }
  auto plan = std::make_shared<const ConvPlan>(make_plan(problem, machine, threads, forced, prepared_weights));
  const std::lock_guard lock(cache.mutex);
  cache.entries.push_front({problem, machine.isa, threads, serial, forced, prepared_weights, hash, plan});
  if (cache.entries.size() > kCachedPlans) cache.entries.pop_back();
  return plan;
}

int64_t first_item_of_share(const ConvPlan& plan, int share, int shares) {
  const int64_t items = plan.blocking.items;
  if (share == 0 || share == shares) return share == 0 ? 0 : items;
  // Multiply-adds of the items before one, and where a gather, or several that share their items, begins.
  const auto work = [&plan](size_t i) {
    return static_cast<double>(plan.gathers[i].depth()) * static_cast<double>(plan.gathers[i].pixels());
  };
  double all = 0;
  for (size_t i = 0; i < plan.gathers.size(); ++i) all += work(i);
  double left = all * share / shares;
  for (size_t i = 0; i < plan.gathers.size();) {
    const int64_t first = plan.blocking.gathers[i].first_item;
    double own = 0;
    for (; i < plan.gathers.size() && plan.blocking.gathers[i].first_item == first; ++i) own += work(i);
    const int64_t end = i < plan.gathers.size() ? plan.blocking.gathers[i].first_item : items;
    if (left <= own) return first + std::llround(left / own * static_cast<double>(end - first));
    left -= own;
  }
  return items;
}

void pack_weights(const ConvPlan& plan, const void* w, void* packed, Interrupt& interrupt) {
  if (plan.single)
    pack_half(plan, w, packed, interrupt);
  else
    plan.algorithm->pack(plan, w, packed, interrupt);
}

bool run_plan(const ConvPlan& plan, ConvOperands operands, Interrupt::Poll poll) {
  Interrupt interrupt(poll);
  if (plan.single) {
    run_half(plan, operands, interrupt);
    return !interrupt.stopped();
  }
  Buffer packed;
  if (plan.packed_bytes && !operands.packed && plan.packed_bytes <= kPackedScratchBytes && !plan.packs_in_run) {
    packed = Buffer(plan.packed_bytes);
    plan.algorithm->pack(plan, operands.w, packed.data(), interrupt);
    operands.packed = packed.data();
  }
  const Workspace workspace(plan.workspace_bytes);
  plan.algorithm->run(plan, operands, workspace.data(), interrupt);
  return !interrupt.stopped();
}

}  // namespace fastconv
