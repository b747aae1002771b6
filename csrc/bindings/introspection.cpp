// Tables, machine and threads, seen from Python: tests and benchmarks take their rows from here.
#include <pybind11/stl.h>

#include <map>

#include "../core/error.h"
#include "../cpu/kernels/kernels.h"
#include "../cpu/machine.h"
#include "../cpu/parallel.h"
#include "../cpu/plan.h"
#include "bindings.h"

namespace fastconv::bindings {
namespace py = pybind11;

namespace {

py::dict config() {
  const Machine& machine = this_machine();
  std::vector<std::string> isas;
  for (Isa isa : available_isas()) isas.emplace_back(name_of(isa));
  py::dict d;
  d["version"] = FASTCONV_VERSION;
  d["compiler"] = FASTCONV_COMPILER;
  d["isa"] = name_of(machine.isa);
  d["isas_available"] = isas;
  d["threading"] = parallel_runtime();
  d["threads"] = get_num_threads();
  d["cores"] = machine.cores;
  d["l1_bytes"] = machine.l1_bytes;
  d["l2_bytes"] = machine.l2_bytes;
  d["l3_bytes"] = machine.l3_bytes;
  return d;
}

// OpenMP ends the process where the system refuses it another thread, so a slip such as 10**6 must not reach it.
// 1024 is more than the hardware threads of today's two-socket servers.
constexpr int kMostThreads = 1024;

void checked_set_num_threads(int64_t threads) {
  if (threads < 1 || threads > kMostThreads)
    throw InvalidArgument(cat("threads=", threads, ": expected 1 to ", kMostThreads));
  set_num_threads(static_cast<int>(threads));
}

std::vector<std::string> algorithm_names() {
  std::vector<std::string> names;
  for (const CpuAlgorithm& row : algorithms()) names.emplace_back(row.name);
  return names;
}

// By name, of the algorithms that are not exact (core/algorithm.h).
std::map<std::string, double> algorithm_errors() {
  std::map<std::string, double> errors;
  for (const CpuAlgorithm& row : algorithms())
    if (!row.exact) errors.emplace(row.name, row.error);
  return errors;
}

// Multiply-adds done by one thread in this many rounds of the peak kernel: the roof that benchmarks measure beside.
int64_t multiply_add_rounds(int64_t rounds) {
  const PeakKernel& kernel = kernels_for(this_machine().isa).peak;
  const py::gil_scoped_release released;
  volatile float sum = kernel.run(rounds);
  (void)sum;
  return rounds * kernel.per_round;
}

}  // namespace

void register_introspection(py::module_& m) {
  m.def("config", &config);
  m.def("algorithms", &algorithm_names);
  m.def("algorithm_errors", &algorithm_errors);
  m.def("get_num_threads", &get_num_threads);
  m.def("set_num_threads", &checked_set_num_threads, py::arg("threads"));
  m.def("multiply_add_rounds", &multiply_add_rounds, py::arg("rounds"));
  m.def("hold_isa", &hold_isa, py::arg("isa_name"));
  m.def("hold_serial_cycles", &hold_serial_cycles, py::arg("cycles"));
}

}  // namespace fastconv::bindings
