// What this processor has, read once; or a machine made by hand, so that a test can ask what another one would do.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fastconv {

enum class Isa : uint8_t { baseline, avx2, avx512, neon };

const char* name_of(Isa isa);

struct Machine {
  Isa isa = Isa::baseline;                                                // the best one that may be used
  int64_t l1_bytes = 32 << 10, l2_bytes = 256 << 10, l3_bytes = 8 << 20;  // per core, per core, shared
  int cores = 1;                                                          // that this process may use

  // Lanes of T in one vector, and fused multiply-adds the core starts per cycle: for the planner's estimates.
  int64_t lanes(int64_t element_bytes) const { return vector_bytes() / element_bytes; }
  int64_t vector_bytes() const { return isa == Isa::avx512 ? 64 : isa == Isa::avx2 ? 32 : 16; }
};

// Processor, operating system and environment, read at the first call. FASTCONV_ISA=baseline|avx2|avx512|neon
// lowers the ISA; a name that is unknown, or that this machine or build lacks, throws InvalidArgument.
const Machine& this_machine();

// The ISAs that this build contains and this machine can run, worst first.
std::vector<Isa> available_isas();

// This machine held to one of available_isas().
Machine machine_with(const std::string& isa_name);

// Makes this_machine() that one from now on; "" goes back to what was detected or forced. For tests and benchmarks.
void hold_isa(const std::string& isa_name);

}  // namespace fastconv
