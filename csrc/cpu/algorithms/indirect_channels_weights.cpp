// The panels of weights of indirect_channels.h.
#include <algorithm>

#include "gather_nest.h"
#include "indirect_channels.h"
#include "weight_panels.h"

namespace fastconv {
namespace {

int64_t vector_lanes(const ConvPlan& plan) {
  return plan.machine.lanes(static_cast<int64_t>(size_of(plan.problem.dtype)));
}

// The element of the kernel that a tap of a gather is.
int64_t kernel_tap(const ConvProblem& p, const Gather& g, int64_t td, int64_t th, int64_t tw) {
  const auto at = [](const Walk& walk, int64_t t) { return walk.tap_start + t * walk.tap_step; };
  return (at(g.d(), td) * p.h().kernel + at(g.h(), th)) * p.w().kernel + at(g.w(), tw);
}

// Source channels along the vector: panel[tap][vector of source channels][row][lane], behind it those of the channels
// that fill no vector, with zeros.
template <class T>
void pack_summed(const ConvPlan& plan, size_t index, const ChannelTile& tile, const T* w, T* panel) {
  const ConvProblem& p = plan.problem;
  const Gather& g = plan.gathers[index];
  const int64_t lanes = vector_lanes(plan), filter = p.in_c_group() * p.taps();
  const bool forward = p.direction == Direction::forward;
  const int64_t row_step = forward ? filter : p.taps(), c_step = forward ? p.taps() : filter;
  const int64_t group = tile.channel / g.dst_c;
  const T* const first = w + group * p.out_c_group() * filter + tile.channel % g.dst_c * row_step;
  const auto vectors_of_taps = [&](int64_t begin, int64_t end) {
    for (int64_t td = 0; td < g.d().taps; ++td)
      for (int64_t th = 0; th < g.h().taps; ++th)
        for (int64_t tw = 0; tw < g.w().taps; ++tw)
          for (int64_t v = begin; v < end; ++v)
            for (int64_t i = 0; i < tile.count; ++i)
              for (int64_t c = v * lanes; c < (v + 1) * lanes; ++c)
                *panel++ = c < g.src_c ? first[i * row_step + c * c_step + kernel_tap(p, g, td, th, tw)] : T{0};
  };
  vectors_of_taps(0, whole_vectors(g, lanes));
  vectors_of_taps(whole_vectors(g, lanes), all_vectors(g, lanes));
}

// A vector of groups that share it: panel[tap][channel of the group][lane]; by triples with the taps of a row in the
// order of the source.
template <class T>
void pack_shared(const ConvPlan& plan, size_t index, int64_t first, const T* w, T* panel) {
  const ConvProblem& p = plan.problem;
  const Gather& g = plan.gathers[index];
  const int64_t lanes = vector_lanes(plan), taps = p.taps(), width = p.in_c_group();
  const bool forward = p.direction == Direction::forward;
  const bool backwards = g.w().offset_step < 0 && takes_triples(p, plan.machine, g, plan.blocking.gathers[index]);
  for (int64_t td = 0; td < g.d().taps; ++td)
    for (int64_t th = 0; th < g.h().taps; ++th)
      for (int64_t tw = 0; tw < g.w().taps; ++tw) {
        const int64_t tap = kernel_tap(p, g, td, th, backwards ? g.w().taps - 1 - tw : tw);
        for (int64_t s = 0; s < width; ++s)
          for (int64_t i = 0; i < lanes; ++i) {
            const int64_t channel = first + i, base = channel - channel % width, own = channel % width;
            const int64_t filter = forward ? channel : base + s, element = forward ? s : own;
            *panel++ = channel < p.in_c ? w[(filter * width + element) * taps + tap] : T{0};
          }
      }
}

}  // namespace

int64_t lay_out_channels(ConvPlan& plan) {
  if (!shared_width(plan.problem, plan.machine)) return lay_out_weights(plan);
  int64_t total = 0;
  for (size_t i = 0; i < plan.gathers.size(); ++i) {
    GatherBlocking& b = plan.blocking.gathers[i];
    b.packed_offset = total;
    total += b.channel_tiles.parts * vector_lanes(plan) * plan.gathers[i].depth();
  }
  return total + kPackSlack;
}

ChannelTile channel_tile(const ConvPlan& plan, size_t index, int64_t i) {
  const Gather& g = plan.gathers[index];
  const GatherBlocking& b = plan.blocking.gathers[index];
  const int64_t lanes = vector_lanes(plan), channels = g.dst_c * plan.problem.groups;
  if (shared_width(plan.problem, plan.machine)) {
    const int64_t first = i * lanes;
    return {i, first, std::min(lanes, channels - first), first, 1, false, b.packed_offset + first * g.depth()};
  }
  const int64_t group = i / b.channel_tiles.parts, in_group = i % b.channel_tiles.parts;
  const WeightTile tile = weight_tile(plan, index, group, 0, in_group);
  const bool summed = b.summed > 0 && in_group + 1 == b.channel_tiles.parts;
  return {i, group * g.dst_c + tile.first, tile.count, group * g.src_c, tile.width / lanes, summed, tile.packed_offset};
}

template <class T>
void pack_channel_tile(const ConvPlan& plan, size_t index, const ChannelTile& tile, const T* w, T* panel) {
  const int64_t parts = plan.blocking.gathers[index].channel_tiles.parts;
  if (shared_width(plan.problem, plan.machine))
    pack_shared(plan, index, tile.channel, w, panel);
  else if (tile.summed)
    pack_summed(plan, index, tile, w, panel);
  else
    pack_weight_tile(plan, index, weight_tile(plan, index, tile.index / parts, 0, tile.index % parts), w, panel);
}

template void pack_channel_tile(const ConvPlan&, size_t, const ChannelTile&, const float*, float*);
template void pack_channel_tile(const ConvPlan&, size_t, const ChannelTile&, const double*, double*);

void pack_indirect_channels(const ConvPlan& plan, const void* w, void* packed, Interrupt& interrupt) {
  visit_dtype(plan.problem.dtype, [&](auto zero) {
    using T = decltype(zero);
    for (size_t index = 0; index < plan.gathers.size(); ++index) {
      const int64_t tiles = channel_tiles(plan.problem, plan.blocking.gathers[index], plan.machine);
      parallel_for(tiles, plan.threads, interrupt, [&](int64_t i, int) {
        const ChannelTile tile = channel_tile(plan, index, i);
        pack_channel_tile(plan, index, tile, static_cast<const T*>(w), static_cast<T*>(packed) + tile.packed_offset);
      });
    }
  });
}

}  // namespace fastconv
