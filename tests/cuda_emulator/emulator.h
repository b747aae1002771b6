// The emulator: runs CUDA kernels, compiled as plain C++, one block after another with every thread a fiber.
//
// A thread runs until it meets others (__syncthreads, a shuffle, ldmatrix, mma, ...); the next one is drawn at random
// from a seed, so that a result which depends on the order of threads shows as a wrong number under some seed.
// Shared memory is NaN before each block. A meeting that some thread never reaches is an EmulationError that names the
// source lines; so are misaligned accesses. Accesses out of bounds are AddressSanitizer's to find: shared memory is a
// heap block of exactly the size the launch asked for.
// What it cannot show: data races inside one instruction, memory ordering, timing, register pressure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>

namespace emulator {

struct EmulationError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Where an instruction stands in the source: a default argument of every emulated instruction.
struct Site {
  const char* file = __builtin_FILE();
  int line = __builtin_LINE();
};
std::string to_string(Site site);
inline bool same_place(Site a, Site b) {
  return a.line == b.line && (a.file == b.file || !std::strcmp(a.file, b.file));
}

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

struct Options {
  uint64_t seed = 0;
  bool lazy_copies = false;  // asynchronous copies happen at the wait instead of at the issue
  bool counting = false;     // record every access; slow
};
inline Options& options() {
  static constinit Options instance;
  return instance;
}

// Exact counts over a launch. Wavefronts: passes of the 32 four-byte banks that an access of a warp takes; phases: the
// passes it would take without conflicts. Sectors: 32-byte pieces of global memory that a warp's access touches.
struct Counters {
  int64_t blocks = 0, barriers = 0, mma = 0, ldmatrix = 0, async_copies = 0;
  int64_t shared_loads = 0, shared_load_phases = 0, shared_load_wavefronts = 0;
  int64_t shared_stores = 0, shared_store_phases = 0, shared_store_wavefronts = 0;
  int64_t global_loads = 0, global_load_sectors = 0, global_load_bytes = 0;
  int64_t global_stores = 0, global_store_sectors = 0, global_store_bytes = 0;
};
std::map<std::string, Counters>& counters();  // by the name given to launch
Counters& running();                          // of the launch under way

// The thread that is running now.
Index thread_index();
Index block_index();
Index block_extent();
Index grid_extent();
int lane();
std::byte* shared_memory();
size_t shared_bytes();
bool is_shared(const void* address);

void run_grid(const char* name, Index grid, Index block, size_t shared_bytes, const std::function<void()>& body);

[[noreturn]] void fail(Site site, const std::string& what);
inline void check_aligned(const void* address, size_t bytes, Site site) {
  if (reinterpret_cast<uintptr_t>(address) % bytes)
    fail(site, "an access of " + std::to_string(bytes) + " bytes is misaligned");
}

// ---- meetings ----
void block_barrier(Site site);                       // __syncthreads
void named_barrier(int id, int threads, Site site);  // bar.sync id, threads

// Called once, by the last lane to arrive, for all lanes of the mask; in[] and out[] are what each lane brought.
using WarpFunction = void (*)(uint32_t mask, const void* const in[32], void* const out[32]);
void warp_meet(const char* what, uint32_t mask, const void* in, void* out, WarpFunction compute, Site site);

// ---- asynchronous copies ----
// `valid` bytes come from src, the rest of `bytes` is zero.
void copy_async(void* dst, const void* src, int bytes, int valid, Site site);
void commit_copies();
void wait_copies(int groups_left);

// ---- accounting ----
enum class Access : uint8_t { shared_load, shared_store, global_load, global_store };
void record_access(Access access, const void* address, int bytes, Site site);
inline void record(Access access, const void* address, int bytes, Site site) {
  if (options().counting) record_access(access, address, bytes, site);
}

}  // namespace emulator
