// The mover `spread` of pack.h: panels straight from an image with a stride and padding.
//
//   for c in channels: for move in moves: load one vector as the move says, store it; the moves lie in L1
//
// A step of 2 loads two vectors and keeps every second lane, a step of 4 does so twice. Lanes that are not asked for
// are loaded and set to 0, unless they may not be read.
// Tried and lost: masked loads in place of that (each needs its mask for each of the vectors loaded); a few channels of
// all tiles at a time in place of all channels of a tile.
#pragma once

#include "../../simd.h"
#include "pack.h"

namespace {

using fastconv::SpreadKind;
using fastconv::SpreadMove;
using fastconv::SpreadPanel;

#if FASTCONV_VECTOR_BYTES == 32
// Halves put side by side as they are loaded: the lanes then need not cross from one half to the other.
template <class T, int... l>
FASTCONV_INLINE Vector<T> load_even(const T* src, Indices<l...>) {
  constexpr int lanes = sizeof...(l), half = lanes / 2, pair = half / 2;
  typedef T Half __attribute__((vector_size(16)));
  const auto halves = [](const T* low, const T* high) {
    Half a, b;
    __builtin_memcpy(&a, low, sizeof a);
    __builtin_memcpy(&b, high, sizeof b);
    return __builtin_shufflevector(a, b, l...);
  };
  const Vector<T> low = halves(src, src + lanes), high = halves(src + half, src + lanes + half);
  return __builtin_shufflevector(low, high, (l / half * half + l % half % pair * 2 + l % half / pair * lanes)...);
}
#endif

// A vector of every step-th element: the last one loaded lies step - 1 behind the last one taken.
template <int step, class T>
FASTCONV_INLINE Vector<T> load_spread(const T* src) {
  if constexpr (step == 1) return load(src);
#if FASTCONV_VECTOR_BYTES == 32
  else if constexpr (step == 2)
    return load_even(src, typename MakeIndices<kLanes<T>>::type{});
#endif
  else
    return even_lanes<T>(load_spread<step / 2>(src), load_spread<step / 2>(src + kLanes<T> * step / 2));
}

// Lanes [begin, end) of v; the others become 0, whatever they were.
template <class T, int... l>
FASTCONV_INLINE Vector<T> keep_lanes(Vector<T> v, int begin, int end, Indices<l...>) {
  using Index = decltype(Vector<T>{} < Vector<T>{});
  using Element = decltype(Index{}[0] + Index{}[0]);
  const Index lane = {l...};
  const Index keep = (lane >= (Element)begin) & (lane < (Element)end);
  return (Vector<T>)((Index)v & keep);
}

template <int step, class T>
FASTCONV_INLINE Vector<T> gather_lanes(const T* src, int begin, int end) {
  T lanes[kLanes<T>] = {};
  for (int l = begin; l < end; ++l) lanes[l] = src[l * step];
  return load(lanes);
}

template <class T, int step>
FASTCONV_INLINE void spread_moves(const SpreadPanel<T>& p) {
  // Copies: a store could change what lies in memory.
  const SpreadMove *const first = p.moves, *const last = first + p.count;
  const int64_t channels = p.channels, plane = p.plane, panel_channel = p.panel_channel;
  const T* src = p.src;
  T* panel = p.panel;
  for (int64_t c = 0; c < channels; ++c, src += plane, panel += panel_channel)
    for (const SpreadMove* m = first; m < last; ++m) {
      const T* const from = src + m->from;
      T* const to = panel + m->to;
      if (m->kind == SpreadKind::whole)
        store(to, load_spread<step>(from));
      else if (m->kind == SpreadKind::part)
        store(to, keep_lanes<T>(load_spread<step>(from), m->begin, m->end, typename MakeIndices<kLanes<T>>::type{}));
      else if (m->kind == SpreadKind::zeros)
        store(to, Vector<T>{});
      else
        store(to, gather_lanes<step>(from, m->begin, m->end));
    }
}

template <class T>
void spread(const SpreadPanel<T>& p) {
  if (p.step == 1) return spread_moves<T, 1>(p);
  if (p.step == 2) return spread_moves<T, 2>(p);
  spread_moves<T, 4>(p);
}

}  // namespace
