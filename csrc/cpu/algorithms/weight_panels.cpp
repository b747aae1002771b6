#include "weight_panels.h"

#include <algorithm>

#include "gather_nest.h"

namespace fastconv {
namespace {

int64_t vector_lanes(const ConvPlan& plan) {
  return plan.machine.lanes(static_cast<int64_t>(size_of(plan.problem.dtype)));
}

// Tiles along the vector are all of full width but the last one.
int64_t tile_begin(const GatherBlocking& b, int64_t lanes, int64_t tile) {
  return b.channels_on_vector ? std::min(b.channel_tiles.count, tile * 2 * lanes) : b.channel_tiles.begin(tile);
}

int64_t padded_width(const GatherBlocking& b, int64_t lanes, int64_t count) {
  if (!b.channels_on_vector) return count;
  return count <= lanes ? lanes : 2 * lanes;
}

}  // namespace

int64_t lay_out_weights(ConvPlan& plan) {
  const int64_t lanes = vector_lanes(plan);
  int64_t total = 0;
  for (size_t i = 0; i < plan.gathers.size(); ++i) {
    GatherBlocking& b = plan.blocking.gathers[i];
    int64_t channels = b.channel_tiles.count;
    if (b.channels_on_vector) {
      const int64_t full = (b.channel_tiles.parts - 1) * 2 * lanes;
      channels = full + padded_width(b, lanes, channels - full);
    }
    b.packed_offset = total;
    b.packed_group = channels * plan.gathers[i].depth();
    total += b.packed_group * plan.problem.groups;
  }
  return total + kPackSlack;
}

WeightTile weight_tile(const ConvPlan& plan, size_t gather, int64_t group, int64_t k_block, int64_t tile) {
  const Gather& g = plan.gathers[gather];
  const GatherBlocking& b = plan.blocking.gathers[gather];
  const int64_t lanes = vector_lanes(plan);
  WeightTile t;
  t.first = tile_begin(b, lanes, tile);
  t.count = tile_begin(b, lanes, tile + 1) - t.first;
  t.width = padded_width(b, lanes, t.count);
  t.group = group;
  t.channel0 = b.k_blocks.begin(k_block);
  t.channels = b.k_blocks.size(k_block);
  t.by_taps = b.by_taps && g.taps() > 1;
  // All tiles of a k block follow each other; a tile's panel begins where the lanes before it end.
  const int64_t all_lanes = b.packed_group / g.depth();
  t.packed_offset =
      b.packed_offset + group * b.packed_group + t.channel0 * g.taps() * all_lanes + t.first * t.channels * g.taps();
  return t;
}

namespace {

// Forward: row i of the tile is the filter of channel first + i, (channel, tap) contiguous.
template <class T>
void pack_forward(const ConvProblem& p, const WeightTile& tile, const PackKernel<T>& pack, const T* w, T* panel) {
  const int64_t taps = p.taps(), filter = p.in_c_group() * taps;
  const T* const first = w + (tile.group * p.out_c_group() + tile.first) * filter + tile.channel0 * taps;
  if (!tile.by_taps)
    return pack.transpose({panel, tile.width, tile.width, first, filter, tile.count, tile.channels * taps});
  for (int64_t c = 0; c < tile.channels; ++c)
    pack.transpose(
        {panel + c * tile.width, tile.channels * tile.width, tile.width, first + c * taps, filter, tile.count, taps});
}

// Input gradient: source channel c is a filter, lane i its input channel first + i, and the gather's taps are some
// of the kernel's.
template <class T>
void pack_input_gradient(const ConvProblem& p, const Gather& g, const WeightTile& tile, const PackKernel<T>& pack,
                         const T* w, T* panel) {
  const int64_t taps = p.taps(), filter = p.in_c_group() * taps;
  const Walk &d = g.d(), &h = g.h(), &wd = g.w();
  if (taps == 1) {  // the channels of a filter are neighbours: rows as they lie
    const T* const from = w + (tile.group * p.out_c_group() + tile.channel0) * filter + tile.first;
    pack.pad_rows({panel, tile.width, tile.width, 0, tile.count, from, filter, 1, g.taps() ? tile.channels : 0});
    return;
  }
  const int64_t tap_step = tile.width * (tile.by_taps ? tile.channels : 1);
  for (int64_t c = 0; c < tile.channels; ++c) {
    const T* const from = w + (tile.group * p.out_c_group() + tile.channel0 + c) * filter + tile.first * taps;
    T* to = panel + c * tile.width * (tile.by_taps ? 1 : g.taps());
    if (g.taps() == taps) {
      pack.transpose({to, tap_step, tile.width, from, taps, tile.count, taps});
      continue;
    }
    for (int64_t td = 0; td < d.taps; ++td)
      for (int64_t th = 0; th < h.taps; ++th)
        for (int64_t tw = 0; tw < wd.taps; ++tw, to += tap_step) {
          const int64_t tap =
              ((d.tap_start + td * d.tap_step) * p.h().kernel + h.tap_start + th * h.tap_step) * p.w().kernel +
              wd.tap_start + tw * wd.tap_step;
          for (int64_t i = 0; i < tile.width; ++i) to[i] = i < tile.count ? from[i * taps + tap] : T{0};
        }
  }
}

}  // namespace

template <class T>
void pack_weight_tile(const ConvPlan& plan, size_t gather, const WeightTile& tile, const T* w, T* panel) {
  const PackKernel<T>& pack = typed<T>(kernels_for(plan.machine.isa).pack);
  if (plan.problem.direction == Direction::forward)
    pack_forward(plan.problem, tile, pack, w, panel);
  else
    pack_input_gradient(plan.problem, plan.gathers[gather], tile, pack, w, panel);
}

template void pack_weight_tile(const ConvPlan&, size_t, const WeightTile&, const float*, float*);
template void pack_weight_tile(const ConvPlan&, size_t, const WeightTile&, const double*, double*);

void pack_gathers(const ConvPlan& plan, const void* w, void* packed, Interrupt& interrupt) {
  visit_dtype(plan.problem.dtype, [&](auto zero) {
    using T = decltype(zero);
    for (size_t i = 0; i < plan.gathers.size(); ++i) {
      const GatherBlocking& b = plan.blocking.gathers[i];
      const int64_t tiles = b.channel_tiles.parts, k_blocks = b.k_blocks.parts;
      parallel_for(plan.problem.groups * k_blocks * tiles, plan.threads, interrupt, [&](int64_t item, int) {
        const WeightTile tile = weight_tile(plan, i, item / tiles / k_blocks, item / tiles % k_blocks, item % tiles);
        pack_weight_tile(plan, i, tile, static_cast<const T*>(w), static_cast<T*>(packed) + tile.packed_offset);
      });
    }
  });
}

}  // namespace fastconv
