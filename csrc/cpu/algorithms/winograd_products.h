// The products between the transforms: at each position the transformed tiles of a block times the weights.
//
//   packed weights:   for position:  for panel of channels:  for part of the terms:  for tiles: gemm tile
//   otherwise:        for panel:  for part of the terms:  its weights transformed;  for position:  for tiles: gemm tile
//
// With a stride, the phases of fewer taps than the first have none at the last position of an axis: that row of G has
// the last tap alone. Their terms are left out there.
#pragma once

#include <vector>

#include "winograd.h"

namespace fastconv {

class WinogradProducts {
 public:
  WinogradProducts(const ConvPlan& plan, const ConvOperands& operands);

  // sums[position][tile][lane] of panels [first, last) of the result channels, of so many transformed tiles
  // v[position][tile][term]; `weights`: room for those of one panel and part, where none are packed.
  void multiply(int64_t group, int64_t first, int64_t last, int64_t tiles, const float* v, float* sums,
                float* weights) const;

 private:
  // What the products of a block have in common.
  struct Block {
    GemmTile<float> tile{};
    int64_t count, height, taller;  // calls per sum: rows of each, and how many have one more
    const float* v;
    float* sums;
  };

  void sum(Block& block, int64_t width, int64_t index, int64_t position, const TermRange& parts, const float* u,
           const float* next) const;
  const TermRange& used(int64_t position, int64_t part) const;

  const ConvPlan& plan_;
  const WinogradBlocking& b_;
  const Kernels& kernels_;
  const int64_t lanes_, cols_;  // cols_: positions in a row
  const float *weights_, *packed_;
  std::vector<TermRange> used_;  // of the parts: anywhere, in the last column, the last row, both
};

}  // namespace fastconv
