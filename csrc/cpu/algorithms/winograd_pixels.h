// Tiles of Winograd's algorithm with the channels last: all channels of a tile come one after the other, so that every
// cache line of a pixel is used at once.
//
//   read    the pixels of a tile, zeros around the image, to a copy that lies close together; its transform
//   write   results where they belong; through a copy where the tile or a vector of channels hangs over the end
//
// Tried and lost: tiles inside the image read where they lie. No quicker, and slower where rows of the image are a
// multiple of 4096 bytes apart: a tile's rows then meet in the same sets of L1. A last vector of results that lies over
// the one before it, instead of a copy.
#pragma once

#include "winograd.h"

namespace fastconv {

class WinogradPixels {
 public:
  // Where the image begins in its array, from the first channel of the group on; elements between its rows, columns.
  // Not `inside`: a slice that a volume does not have, all zeros.
  struct Image {
    bool inside;
    int64_t first, row, col;
  };

  WinogradPixels(const ConvPlan& plan, const ConvOperands& operands);

  // Elements of the copies.
  static int64_t copied_input(const ConvPlan& plan);
  static int64_t copied_results(const ConvPlan& plan);

  // The tile whose first element is pixel (y, x), to its transform.
  void read(const Image& image, int64_t y, int64_t x, float* copy, float* tile) const;
  // The results from (y, x) on, of `count` channels of the group from `channel` on, from their sums. Whole vectors of
  // `bias` are loaded.
  void write(const Image& image, int64_t y, int64_t x, int64_t channel, int64_t count, const float* bias,
             const float* sums, float* copy) const;

 private:
  void copy_pixels(const Image& image, int64_t y, int64_t x, float* copy) const;

  const ConvProblem& p_;
  const Gather& g_;
  const WinogradBlocking& b_;
  const WinogradForm &h_, &w_;
  const Kernels& kernels_;
  const int64_t lanes_;
  const CurveFunction<float> curve_;
  const float *src_, *src_end_, *residual_;
  float* dst_;
};

}  // namespace fastconv
