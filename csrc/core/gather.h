// Gather: a forward convolution or one phase of an input gradient, as one and the same thing to compute.
//
// Both write  dst[dst_c][j] = sum over src_c, t of  weight(dst_c, src_c, tap(t)) * src[src_c][position(j, t)]
// where along each axis, for j in [0, dst) and t in [0, taps):
//   position(j, t) = j * src_step + offset + t * offset_step      (outside [0, src): contributes nothing)
//   tap(t)         = tap_start + t * tap_step                     (which kernel element)
//   place(j)       = dst_start + j * dst_step                     (where the result goes)
// Forward: one phase; src is x, position = j*stride - pad_lo + t*dilation.
// Input gradient: src is the gradient of y. The positions i of x with the same (i + pad_lo) mod stride use the
// same taps, so each residue is a convolution of its own with src_step 1, and no zero is ever multiplied.
#pragma once

#include <vector>

#include "problem.h"

namespace fastconv {

struct Walk {
  int64_t src, dst;
  int64_t src_step;
  int64_t taps, tap_start, tap_step;
  int64_t offset, offset_step;
  int64_t dst_start, dst_step;
  int64_t dst_full;  // extent of the whole result along this axis

  int64_t position(int64_t j, int64_t t) const { return j * src_step + offset + t * offset_step; }
  int64_t least_offset() const { return offset + (offset_step < 0 && taps ? (taps - 1) * offset_step : 0); }
  int64_t most_offset() const { return offset + (offset_step > 0 && taps ? (taps - 1) * offset_step : 0); }
};

struct Gather {
  std::array<Walk, 3> walks;  // depth, height, width
  int64_t src_c, dst_c;       // channels of one group

  const Walk& d() const { return walks[0]; }
  const Walk& h() const { return walks[1]; }
  const Walk& w() const { return walks[2]; }
  int64_t taps() const { return d().taps * h().taps * w().taps; }
  int64_t depth() const { return src_c * taps(); }  // terms of each sum
  int64_t pixels() const { return d().dst * h().dst * w().dst; }
};

// The phases of an input gradient that have taps (at most as many as the kernel has taps); the one gather of a
// forward problem, by which a weight gradient reads x too.
std::vector<Gather> make_gathers(const ConvProblem& problem);

// False where a stride leaves positions of x that no window reads: their gradient is 0 and no phase writes them.
bool covers_result(const std::vector<Gather>& gathers);

}  // namespace fastconv
