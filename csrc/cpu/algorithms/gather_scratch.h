// What one thread of the loop nest of gather_nest.h works in.
#pragma once

#include <algorithm>

#include "../buffer.h"
#include "../plan.h"
#include "../spread.h"

namespace fastconv {

// Pixels [first, first + count) of a block, padded to `width`, and where the gemm tile reads and writes them.
template <class T>
struct PixelTile {
  int64_t first, count, width;
  const T* base;
  int64_t offset;  // of the first result in the image
  bool even;       // the results are evenly spaced
  bool tail;       // in place at the end of the source: it needs a panel
};

// What one thread works in; the same carving measures and lays out.
template <class T>
struct GatherScratch {
  T *stage, *panel, *weights;
  int64_t *pixel_offset, *tap_step;
  PixelRun* runs;
  SpreadMove* moves;
  PixelTile<T>* tiles;

  GatherScratch(Carver& carver, const ConvPlan& plan) {
    int64_t stage_size = 0, panel_size = 0, weight_size = 0, pixels = 0, taps = 0, moves_size = 0;
    for (size_t i = 0; i < plan.gathers.size(); ++i) {
      const Gather& g = plan.gathers[i];
      const GatherBlocking& b = plan.blocking.gathers[i];
      const int64_t k_channels = ceil_div(b.k_blocks.count, b.k_blocks.parts), depth = k_channels * g.taps();
      const int64_t block = b.block_rows * b.block_cols, width = 2 * plan.machine.lanes(sizeof(T));
      if (!b.stage.in_place && !b.spread) stage_size = std::max(stage_size, b.stage.elements(k_channels));
      // Without panels one tile still needs one, at the end of a source that is read in place.
      const int64_t panel_depth = b.keeps_passes ? g.depth() : depth;
      panel_size = std::max(panel_size, (b.panels ? block + width : b.stage.in_place ? width : 0) * panel_depth);
      weight_size = std::max(weight_size, depth * std::max<int64_t>(width, kMaxTileRows));
      if (b.spread) moves_size = std::max(moves_size, most_moves(g, width, width / 2, b.block_cols));
      pixels = std::max(pixels, block);
      taps = std::max(taps, g.taps());
    }
    stage = carver.take<T>(stage_size);
    panel = carver.take<T>(panel_size + kPackSlack);
    weights = carver.take<T>(weight_size + kPackSlack);
    pixel_offset = carver.take<int64_t>(pixels);
    tap_step = carver.take<int64_t>(2 * taps);
    runs = carver.take<PixelRun>(pixels + 1);
    moves = carver.take<SpreadMove>(moves_size);
    tiles = carver.take<PixelTile<T>>(pixels);
  }
};

template <class T>
size_t gather_thread_bytes(const ConvPlan& plan) {
  Carver carver(nullptr);
  const GatherScratch<T> scratch(carver, plan);
  return carver.used();
}

}  // namespace fastconv
