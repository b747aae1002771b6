// What the nests with channels along the vector share (depthwise_channels.cpp, depthwise_turned.cpp).
#pragma once

#include <cstdlib>

#include "depthwise_nests.h"

namespace fastconv {

// Between the rows or columns that neighbouring taps read.
inline int64_t distance(const Walk& walk) { return walk.taps > 1 ? std::abs(walk.offset_step) : 1; }

// A gather over whole planes whose pixels are `unit` elements apart; pointers, rows and bias are the caller's.
template <class T>
DepthwisePixels<T> pixels_of(const ConvProblem& p, const Gather& g, int64_t unit) {
  const Walk &h = g.h(), &w = g.w();
  DepthwisePixels<T> t{};
  t.x_row = w.src * unit;
  t.x_col = t.w_tap = unit;
  t.in_h = h.src;
  t.in_w = w.src;
  t.first_h = h.least_offset();
  t.step_h = h.src_step;
  t.tap_h = distance(h);
  t.first_w = w.least_offset();
  t.step_w = w.src_step;
  t.tap_w = distance(w);
  t.ker_h = h.taps;
  t.ker_w = w.taps;
  t.cols = w.dst;
  set_clamp(t, p.activation, true);
  return t;
}

}  // namespace fastconv
