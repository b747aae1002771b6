// The row of an algorithm table: a loop nest under a name, the same on every device.
//
// Plan is the device's own plan (csrc/cpu/plan.h, cuda/plan.h); Context is what run needs from outside: the
// interrupt flag on a CPU, the stream on a GPU. All functions are stateless.
#pragma once

#include <cstddef>
#include <string>

#include "problem.h"

namespace fastconv {

// Empty reason: the algorithm can do the problem.
struct Support {
  std::string reason;
  bool ok() const { return reason.empty(); }
};

struct ConvOperands {
  void* x = nullptr;  // in the direction's roles: two are read, one is written
  void* w = nullptr;
  void* y = nullptr;
  const void* bias = nullptr;
  const void* packed = nullptr;    // w as pack() left it, where packed_bytes > 0
  const void* residual = nullptr;  // of y's shape, or y itself: every element is read before it is written
};

template <class Plan, class Machine, class Context>
struct Algorithm {
  const char* name;
  bool exact;  // rounds like a plain sum of products; false for Winograd
  Support (*supports)(const ConvProblem&, const Machine&);
  double (*cost)(const ConvProblem&, const Machine&, int threads);  // estimated cycles
  void (*prepare)(Plan&);                                           // decides blocking, packed_bytes, workspace_bytes
  void (*pack)(const Plan&, const void* w, void* packed, Context&);
  void (*run)(const Plan&, const ConvOperands&, std::byte* workspace, Context&);
  // Where not exact: the largest error of an element, as a share of the largest sum of |x| |w| of the result.
  double error = 0;
  // Estimated cycles to pack, of a row that does more than copy: counts in a call that packs for itself. Else null.
  double (*pack_cost)(const ConvProblem&, const Machine&) = nullptr;
};

}  // namespace fastconv
