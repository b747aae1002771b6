// Exact counts of bank conflicts and sectors.
//
// Fibers of a warp do not run in step, so an access of a warp is put together afterwards: the k-th time that each lane
// passes one source line is one access. That is exact where the lanes pass a line equally often, as converged code
// does.
#include <algorithm>
#include <set>
#include <tuple>
#include <vector>

#include "emulator.h"
#include "recorder.h"

namespace emulator {
namespace {

struct Record {
  int warp, lane;
  Access access;
  const char* file;
  int line, turn;
  uintptr_t address;
  int bytes;
  auto key() const { return std::tie(warp, access, file, line, turn); }
};

std::vector<Record> records;
std::map<std::tuple<int, Access, const char*, int>, int> turns;  // how often a thread passed a line
Counters* launched = nullptr;                                    // of the launch under way

struct Passes {
  int64_t phases = 0, wavefronts = 0;
};

// Accesses of 8 bytes are served half a warp at a time, of 16 bytes a quarter; a phase takes as many wavefronts as the
// busiest bank has different words.
Passes bank_passes(const Record* begin, const Record* end) {
  Passes passes;
  const int lanes = begin->bytes == 16 ? 8 : begin->bytes == 8 ? 16 : 32;
  for (int first = 0; first < 32; first += lanes) {
    std::set<uintptr_t> words[32];
    for (const Record* r = begin; r != end; ++r)
      if (r->lane >= first && r->lane < first + lanes)
        for (int byte = 0; byte < r->bytes; byte += 4) {
          const uintptr_t word = (r->address + static_cast<uintptr_t>(byte)) / 4;
          words[word % 32].insert(word);
        }
    size_t busiest = 0;
    for (const auto& bank : words) busiest = std::max(busiest, bank.size());
    passes.phases += busiest > 0;
    passes.wavefronts += static_cast<int64_t>(busiest);
  }
  return passes;
}

void settle(const Record* begin, const Record* end) {
  Counters& c = running();
  if (begin->access == Access::shared_load || begin->access == Access::shared_store) {
    const Passes passes = bank_passes(begin, end);
    const bool load = begin->access == Access::shared_load;
    (load ? c.shared_loads : c.shared_stores) += 1;
    (load ? c.shared_load_phases : c.shared_store_phases) += passes.phases;
    (load ? c.shared_load_wavefronts : c.shared_store_wavefronts) += passes.wavefronts;
    return;
  }
  std::set<uintptr_t> sectors;
  int64_t bytes = 0;
  for (const Record* r = begin; r != end; ++r) {
    bytes += r->bytes;
    for (uintptr_t at = r->address / 32; at <= (r->address + static_cast<uintptr_t>(r->bytes) - 1) / 32; ++at)
      sectors.insert(at);
  }
  const bool load = begin->access == Access::global_load;
  (load ? c.global_loads : c.global_stores) += 1;
  (load ? c.global_load_sectors : c.global_store_sectors) += static_cast<int64_t>(sectors.size());
  (load ? c.global_load_bytes : c.global_store_bytes) += bytes;
}

}  // namespace

std::map<std::string, Counters>& counters() {
  static std::map<std::string, Counters> all;
  return all;
}

Counters& running() { return *launched; }

void begin_launch(const char* name) {
  launched = &counters()[name];
  records.clear();
  turns.clear();
}

void record_access(Access access, const void* address, int bytes, Site site) {
  const int linear = linear_thread();
  const int turn = turns[{linear, access, site.file, site.line}]++;
  // Shared addresses count from the start of the block's memory: banks do not depend on where the heap put it.
  const bool shared = access == Access::shared_load || access == Access::shared_store;
  const auto base = shared ? reinterpret_cast<uintptr_t>(shared_memory()) : 0;
  records.push_back({linear / 32, linear % 32, access, site.file, site.line, turn,
                     reinterpret_cast<uintptr_t>(address) - base, bytes});
}

void settle_records() {
  std::sort(records.begin(), records.end(), [](const Record& a, const Record& b) { return a.key() < b.key(); });
  for (size_t begin = 0; begin < records.size();) {
    size_t end = begin + 1;
    while (end < records.size() && records[end].key() == records[begin].key()) ++end;
    settle(&records[begin], &records[begin] + (end - begin));
    begin = end;
  }
  records.clear();
  turns.clear();
}

}  // namespace emulator
