// indirect, channels last: result channels along the vector, pixels down the tile, elements read where they lie.
//
//   acc[pixels][channels] = bias + sum over k = (in_c, tap) of  src[place(pixel) + offset[k]] * w[k][channels]
//
//   for item = (image, block of pixels, part of the channels):            one thread each
//     the block's rows with all their channels, padded, into the stage, unless nothing has to be padded
//     for group, for tile of its channels:  one call of kernels/indirect for all pixels of the block
//
// A pixel's channels are neighbours in the result and in the source: nothing is transposed on the way in or out, a
// stride needs no phases, and tiles run over the ends of rows.
// Groups of 2, 4 or 8 channels that fill a vector only together share it: there k = (tap, in_c).
// Few result channels, or few in the last tile, would leave most of a vector empty: there source channels lie along the
// vector, and k = (tap, vector of in_c).
#pragma once

#include "../plan.h"

namespace fastconv {

// Channels of groups that share a vector, each lane reading those of its own group; 0: each group by itself.
int64_t shared_width(const ConvProblem& problem, const Machine& machine);

// Whether groups that share a vector are done three taps at a time (kernels/indirect).
bool takes_triples(const ConvProblem& problem, const Machine& machine, const Gather& gather,
                   const GatherBlocking& blocking);

// Vectors of source channels of a tap, those that are whole and a rest.
inline int64_t whole_vectors(const Gather& g, int64_t lanes) { return g.src_c / lanes; }
inline int64_t all_vectors(const Gather& g, int64_t lanes) { return ceil_div(g.src_c, lanes); }

// Elements from one pixel of the block's source to the next.
int64_t pixel_pitch(const ConvProblem& problem, const Gather& gather, const GatherBlocking& blocking);

// Source elements along an axis from the first tap of a result to its last one.
inline int64_t extent(const Walk& walk) { return walk.most_offset() - walk.least_offset() + 1; }

// The stage of a block counts pixels and not elements: each holds its channels.
GatherBlocking block_channels(const ConvProblem& problem, const Gather& gather, const Machine& machine, int threads);

// Tiles of channels of all groups.
inline int64_t channel_tiles(const ConvProblem& p, const GatherBlocking& b, const Machine& m) {
  return b.channel_tiles.parts * (shared_width(p, m) ? 1 : p.groups);
}

// A tile of channels and where its weights lie.
struct ChannelTile {
  int64_t index;
  int64_t channel, count;  // result channels, of all groups
  int64_t source;          // first source channel, of all groups
  int64_t vectors;
  bool summed;  // source channels along the vector
  int64_t packed_offset;
};

// The elements of all panels; sets where those of each gather begin.
int64_t lay_out_channels(ConvPlan& plan);
ChannelTile channel_tile(const ConvPlan& plan, size_t gather, int64_t index);
template <class T>
void pack_channel_tile(const ConvPlan& plan, size_t gather, const ChannelTile& tile, const T* w, T* panel);

// Cycles of all images on one thread; infinity where it is not for the problem.
double indirect_channels_cost(const ConvProblem& problem, const Machine& machine);
void prepare_indirect_channels(ConvPlan& plan);
void pack_indirect_channels(const ConvPlan& plan, const void* w, void* packed, Interrupt& interrupt);
void run_indirect_channels(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace,
                           Interrupt& interrupt);

}  // namespace fastconv
