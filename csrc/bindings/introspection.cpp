// Tables, machine and threads, seen from Python: tests and benchmarks take their rows from here.
#include <pybind11/stl.h>

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

std::vector<std::string> algorithm_names() {
  std::vector<std::string> names;
  for (const CpuAlgorithm& row : algorithms()) names.emplace_back(row.name);
  return names;
}

}  // namespace

void register_introspection(py::module_& m) {
  m.def("config", &config);
  m.def("algorithms", &algorithm_names);
  m.def("get_num_threads", &get_num_threads);
  m.def("set_num_threads", &set_num_threads);
  m.def("hold_isa", &hold_isa);
}

}  // namespace fastconv::bindings
