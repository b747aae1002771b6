// The weights of a gather, packed for the tiles that read them: where each panel lies, and how one is filled.
//
//   per gather, per group, per block of source channels, per tile of result channels:
//     panel[(src channel, tap)][lane]     lane = result channel of the tile; 0 behind the last one
//     panel[(tap, src channel)][lane]     by taps: where tiles go through the channels of one tap after the other
// The tile is as wide as its channels down the rows of the gemm tile, or padded to whole vectors along them.
#pragma once

#include "../plan.h"

namespace fastconv {

struct WeightTile {
  int64_t first, count;               // result channels, within the group
  int64_t width;                      // lanes of the panel
  int64_t group, channel0, channels;  // source channels
  int64_t packed_offset;              // in the packed weights, in elements
  bool by_taps = false;
};

// Sets packed_offset and packed_group of each gather; returns the elements of all.
int64_t lay_out_weights(ConvPlan& plan);

WeightTile weight_tile(const ConvPlan& plan, size_t gather, int64_t group, int64_t k_block, int64_t tile);

template <class T>
void pack_weight_tile(const ConvPlan& plan, size_t gather, const WeightTile& tile, const T* w, T* panel);

}  // namespace fastconv
