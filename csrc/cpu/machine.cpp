#include "machine.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <list>
#include <mutex>
#include <thread>

#include "../core/error.h"

#if defined(__linux__)
#include <sched.h>
#include <unistd.h>
#endif

namespace fastconv {

const char* name_of(Isa isa) {
  switch (isa) {
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::neon:
      return "neon";
    default:
      return "baseline";
  }
}

std::vector<Isa> available_isas() {
#if defined(__x86_64__)
  // libgcc and compiler-rt read cpuid and, through xgetbv, what the operating system saves on a context switch.
  __builtin_cpu_init();
  std::vector<Isa> isas{Isa::baseline};
  // F16C is older than AVX2 and in every processor that has it; not every compiler here can ask for it.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2) isas.push_back(Isa::avx2);
#if defined(FASTCONV_EMULATE_AVX512)  // compiled for AVX2, to be tested
  if (avx2) isas.push_back(Isa::avx512);
#else
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
    isas.push_back(Isa::avx512);
#endif
  return isas;
#elif defined(__aarch64__)
  return {Isa::baseline, Isa::neon};  // Advanced SIMD is part of the architecture
#else
  return {Isa::baseline};
#endif
}

namespace {

#if defined(__linux__)
int64_t read_number(const std::string& path, int64_t otherwise) {
  std::ifstream file(path);
  int64_t value;
  return file >> value ? value : otherwise;
}

// Linux lists each cache with its level, type and a size such as "48K".
int64_t cache_bytes(int level, int64_t otherwise) {
  for (int index = 0; index < 8; ++index) {
    const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/";
    if (read_number(folder + "level", -1) != level) continue;
    std::ifstream type_file(folder + "type"), size_file(folder + "size");
    std::string type, size;
    type_file >> type;
    size_file >> size;
    if (type == "Instruction" || size.size() < 2) continue;
    const int64_t unit = size.back() == 'K' ? 1 << 10 : size.back() == 'M' ? 1 << 20 : 1;
    const int64_t bytes = std::strtoll(size.c_str(), nullptr, 10) * unit;
    if (bytes > 0) return bytes;
  }
  return otherwise;
}

// cgroup v2 "max 100000" or "200000 100000"; v1 in two files, -1 for no limit. 0: no limit.
int cgroup_cores() {
  int64_t quota = -1, period = 100000;
  std::ifstream v2("/sys/fs/cgroup/cpu.max");
  std::string first;
  if (v2 >> first >> period) {
    if (first != "max") quota = std::strtoll(first.c_str(), nullptr, 10);
  } else {
    quota = read_number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", -1);
    period = read_number("/sys/fs/cgroup/cpu/cpu.cfs_period_us", 100000);
  }
  if (quota <= 0 || period <= 0) return 0;
  return static_cast<int>(std::max<int64_t>(1, (quota + period - 1) / period));
}
#endif

int usable_cores() {
  int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cores = std::max(1, CPU_COUNT(&set));
  if (const int quota = cgroup_cores()) cores = std::min(cores, quota);
#endif
  return cores;
}

Machine read_machine() {
  Machine machine;
  machine.isa = available_isas().back();
#if defined(__linux__)
  machine.l1_bytes = cache_bytes(1, machine.l1_bytes);
  machine.l2_bytes = cache_bytes(2, machine.l2_bytes);
  machine.l3_bytes = cache_bytes(3, machine.l3_bytes);
#endif
  machine.cores = usable_cores();
  return machine;
}

const Machine& detected_machine() {
  static const Machine machine = read_machine();
  return machine;
}

}  // namespace

Machine machine_with(const std::string& isa_name) {
  std::string known;
  for (Isa isa : available_isas()) {
    if (isa_name == name_of(isa)) {
      Machine machine = detected_machine();
      machine.isa = isa;
      return machine;
    }
    known += cat(known.empty() ? "" : ", ", name_of(isa));
  }
  throw InvalidArgument(
      cat("ISA '", isa_name, "' (FASTCONV_ISA): expected one that this build has and this machine can run: ", known));
}

namespace {
std::atomic<const Machine*> held_machine{nullptr};
}

const Machine& this_machine() {
  static const Machine machine = [] {
    const char* forced = std::getenv("FASTCONV_ISA");
    return forced && *forced ? machine_with(forced) : detected_machine();
  }();
  const Machine* const held = held_machine.load(std::memory_order_acquire);
  return held ? *held : machine;
}

void hold_isa(const std::string& isa_name) {
  if (isa_name.empty()) {
    held_machine.store(nullptr, std::memory_order_release);
    return;
  }
  // One Machine per name, never freed: a call on another thread may be reading it.
  static std::mutex mutex;
  static std::list<Machine> machines;
  const Machine machine = machine_with(isa_name);
  const std::lock_guard lock(mutex);
  for (const Machine& known : machines)
    if (known.isa == machine.isa) return held_machine.store(&known, std::memory_order_release);
  held_machine.store(&machines.emplace_back(machine), std::memory_order_release);
}

}  // namespace fastconv
