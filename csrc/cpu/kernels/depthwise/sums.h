// Weight gradient of depthwise over one plane (depthwise.h, DepthwiseSums): lanes are neighbouring pixels of a row.
//
//   for bands of rows: for blocks of up to 3 x ker_w taps:
//     acc[3][ker_w] = 0
//     for row of x: for the vectors that are whole inside:  load its ker_w shifted vectors once
//       for th with r = row - th a row of y:  acc[th][:] += y[r] * loaded[:]
//     for the others, at the edges: the same for all rows, under masks that stay what they are
//     (a stride or a dilation along the height: for row of y, the rows of x that it meets)
//     sums += acc
//
// Planes are read first in the order of memory, and the sums stay in registers over all of a band.
// Register budget, AVX-512: 21 acc + 7 loaded + 1 of 32; with 16 registers the blocks are lower. Sums of a band are
// added to those of the others, which keeps long sums accurate.
// With a stride of 2 along the width the lanes of y are put once into the order that one shuffle of x gives (planes.h).
// Only where the ISA loads under masks.
// Tried and lost: columns of vectors outermost for all of them (a large plane then comes from memory a line here and a
// line there); the edges within the rows (two sets of masks, and a row of y loaded for each tap).
#pragma once

#include "planes.h"

namespace {

using fastconv::DepthwiseSums;

// Loads of a vector of x for `along` taps side by side; with a stride of 2 two of them hold the columns of two taps.
template <int along, int step_w>
constexpr int kSumsLoads = step_w == 1 ? along : (along + 1) / 2 * 2;

// A block of `down` x `along` taps over the rows of a band.
template <class T, int down, int along, int step_w>
struct SumsOfTaps {
  static constexpr int kLoads = kSumsLoads<along, step_w>;
  struct Masks {
    Mask<T> x[kLoads], y;
  };
  using Sums = Vector<T>[down][along];
  const DepthwiseSums<T>& t;
  const int64_t first;  // row of x that the first of these taps reads for the first row of y
  int64_t offset[kLoads];
  int64_t inner0, inner1;  // vectors of y from inner0 to inner1 are whole, and theirs of x inside the row

  FASTCONV_INLINE SumsOfTaps(const DepthwiseSums<T>& tile, int64_t th, int64_t tw0)
      : t(tile), first(tile.first_h + th * tile.tap_h) {
    int64_t least = INT64_MAX, most = INT64_MIN;
#pragma GCC unroll 8
    for (int l = 0; l < kLoads; ++l) {
      const int j = step_w == 1 ? l : l / 2 * 2;
      const int64_t column = t.column[tw0 + j];
      offset[l] = column + (l - j) * kLanes<T>;
      least = column < least ? column : least;
      most = column > most ? column : most;
    }
    inner0 = 0, inner1 = t.cols / kLanes<T> * kLanes<T>;
    while (inner0 < inner1 && inner0 * step_w + least < 0) inner0 += kLanes<T>;
    while (inner1 > inner0 && inner1 * step_w + most > t.in_w) inner1 -= kLanes<T>;
  }

  template <bool masked>
  FASTCONV_INLINE void read_x(const T* x, const Masks& masks, Vector<T> (&to)[along]) const {
#pragma GCC unroll 7
    for (int j = 0; j < along; j += step_w) {
      Vector<T> part[step_w];
#pragma GCC unroll 2
      for (int s = 0; s < step_w; ++s) {
        const T* const from = x + offset[j + s];
        part[s] = masked ? load_masked(from, masks.x[j + s]) : load(from);
      }
      to[j] = step_w == 1 ? part[0] : even_lanes_near<T>(part[0], part[step_w - 1]);
      if constexpr (step_w == 2)
        if (j + 1 < along) to[j + 1] = odd_lanes_near<T>(part[0], part[1]);
    }
  }
  template <bool masked>
  FASTCONV_INLINE Vector<T> read_y(const T* y, const Masks& masks) const {
    const Vector<T> dy = masked ? load_masked(y, masks.y) : load(y);
    return step_w == 2 ? lanes_in_order<T>(dy) : dy;
  }
  static FASTCONV_INLINE void add(const Vector<T> (&x)[along], Vector<T> dy, Vector<T> (&acc)[along]) {
#pragma GCC unroll 7
    for (int j = 0; j < along; ++j) acc[j] += x[j] * dy;
  }

  // Row r of y with the rows of x that it meets, at vector q.
  template <bool masked>
  FASTCONV_INLINE void row_of_y(int64_t r, int64_t q, const Masks& masks, Sums& acc) const {
    const int64_t row = first + r * t.step_h;
    const T* const x = t.x + row * t.x_row + q * step_w;
    const Vector<T> dy = read_y<masked>(t.y + r * t.y_row + q, masks);
#pragma GCC unroll 3
    for (int i = 0; i < down; ++i) {
      if ((uint64_t)(row + i * t.tap_h) >= (uint64_t)t.in_h) continue;
      Vector<T> part[along];
      read_x<masked>(x + i * t.tap_h * t.x_row, masks, part);
      add(part, dy, acc[i]);
    }
  }

  // Row k of x, counted from `first`, with the rows of y that meet it: k, k - 1 ...
  FASTCONV_INLINE void row_of_x(int64_t k, int64_t q, const Masks& masks, Sums& acc) const {
    Vector<T> part[along];
    read_x<false>(t.x + (first + k) * t.x_row + q, masks, part);
#pragma GCC unroll 3
    for (int i = 0; i < down; ++i)
      if (down == 1 || (uint64_t)(k - i) < (uint64_t)t.rows)
        add(part, read_y<false>(t.y + (k - i) * t.y_row + q, masks), acc[i]);
  }

  // All rows at one vector under masks; the rows of y that are met again stay in registers.
  FASTCONV_INLINE void column(int64_t q, bool shared, Sums& acc) const {
    const int64_t count = t.cols - q < kLanes<T> ? t.cols - q : kLanes<T>;
    Masks masks;
    masks.y = lanes_between<T>(0, count);
#pragma GCC unroll 8
    for (int l = 0; l < kLoads; ++l) {  // lanes behind the last result: what lies there in x may be an infinity
      const int64_t begin = q * step_w + offset[l], room = t.in_w - begin;
      const int64_t wanted = count * step_w - (step_w == 1 ? 0 : l % 2 * kLanes<T>);
      masks.x[l] = lanes_between<T>(-begin, room < wanted ? room : wanted);
    }
    if (!shared) {
      for (int64_t r = 0; r < t.rows; ++r) row_of_y<true>(r, q, masks, acc);
      return;
    }
    Vector<T> dy[down] = {};
    const T* x = t.x + first * t.x_row + q;
    const T* y = t.y + q;
    const auto row = [&]<bool all>(int64_t k) __attribute__((always_inline)) {
#pragma GCC unroll 2
      for (int i = down - 1; i > 0; --i) dy[i] = dy[i - 1];
      if (all || k < t.rows) dy[0] = read_y<true>(y, masks);
      if ((uint64_t)(first + k) < (uint64_t)t.in_h) {
        Vector<T> part[along];
        read_x<true>(x, masks, part);
#pragma GCC unroll 3
        for (int i = 0; i < down; ++i)
          if (all || (uint64_t)(k - i) < (uint64_t)t.rows) add(part, dy[i], acc[i]);
      }
      x += t.x_row, y += t.y_row;
    };
    int64_t k = 0;
    for (; k < down - 1; ++k) row.template operator()<false>(k);
    for (; k < t.rows; ++k) row.template operator()<true>(k);
    for (; k < t.rows + down - 1; ++k) row.template operator()<false>(k);
  }

  FASTCONV_INLINE void run(T* sums) const {
    Sums acc = {};
    const Masks none{};
    const bool shared = step_w == 1 && t.step_h == 1 && t.tap_h == 1;
    if (shared && inner0 < inner1)
      for (int64_t k = 0; k < t.rows + down - 1; ++k) {
        if ((uint64_t)(first + k) >= (uint64_t)t.in_h) continue;
        for (int64_t q = inner0; q < inner1; q += kLanes<T>) row_of_x(k, q, none, acc);
      }
    else
      for (int64_t r = 0; r < t.rows; ++r)
        for (int64_t q = inner0; q < inner1; q += kLanes<T>) row_of_y<false>(r, q, none, acc);
    for (int64_t q = 0; q < t.cols; q += kLanes<T>)
      if (q < inner0 || q >= inner1) column(q, shared, acc);
#pragma GCC unroll 3
    for (int i = 0; i < down; ++i)
#pragma GCC unroll 7
      for (int j = 0; j < along; ++j) {
        T* const to = sums + (i * t.ker_w + j) * kLanes<T>;
        store(to, load(to) + acc[i][j]);
      }
  }
};

template <class T, int down, int along, int step_w>
void sums_taps(const DepthwiseSums<T>& t, int64_t th0, int64_t tw0) {
  SumsOfTaps<T, down, along, step_w>(t, th0, tw0).run(t.sums + (th0 * t.ker_w + tw0) * kLanes<T>);
}

template <class T, int along, int step_w>
FASTCONV_INLINE void sums_columns(const DepthwiseSums<T>& t, int64_t tw0) {
  constexpr int most = FASTCONV_VECTOR_BYTES == 64 || along <= 3 ? 3 : along <= 5 ? 2 : 1;
  int64_t th = 0;
  for (; th + most <= t.ker_h; th += most) sums_taps<T, most, along, step_w>(t, th, tw0);
  for (; th < t.ker_h; ++th) sums_taps<T, 1, along, step_w>(t, th, tw0);
}

template <class T, int step_w>
FASTCONV_INLINE void band_sums(const DepthwiseSums<T>& t) {
  int64_t tw = 0;
  // Two loads hold the columns of two taps only where these are neighbours.
  const bool together = step_w == 1 || t.ker_w == 1 || t.column[1] == t.column[0] + 1;
  if (together) {
    for (; tw + 7 <= t.ker_w; tw += 7) sums_columns<T, 7, step_w>(t, tw);
    for (; tw + 5 <= t.ker_w; tw += 5) sums_columns<T, 5, step_w>(t, tw);
    for (; tw + 3 <= t.ker_w; tw += 3) sums_columns<T, 3, step_w>(t, tw);
  }
  for (; tw < t.ker_w; ++tw) sums_columns<T, 1, step_w>(t, tw);
}

// Rows of y that are summed before the sums go to memory: few enough that x and y stay in L1 for all blocks of taps,
// and that a sum does not get long; many enough that the rows of x that two bands share do not matter.
constexpr int64_t kBandVectors = 256;

template <class T>
FASTCONV_INLINE void band_sums(const DepthwiseSums<T>& t) {
  t.step_w == 1 ? band_sums<T, 1>(t) : band_sums<T, 2>(t);
}

template <class T>
void plane_sums(const DepthwiseSums<T>& t) {
  const int64_t vectors = (t.cols + kLanes<T> - 1) / kLanes<T>;
  if (t.rows * vectors <= kBandVectors) return band_sums(t);
  const int64_t bands = t.rows / (kBandVectors / vectors < 8 ? 8 : kBandVectors / vectors) + 1;
  for (int64_t band = 0; band < bands; ++band) {
    const int64_t begin = t.rows * band / bands;
    DepthwiseSums<T> part = t;
    part.first_h += begin * t.step_h;
    part.y += begin * t.y_row;
    part.rows = t.rows * (band + 1) / bands - begin;
    band_sums(part);
  }
}

template <class T>
void total_of_lanes(const T* sums, int64_t count, T* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = sum_lanes<T>(load(sums + i * kLanes<T>));
}

}  // namespace
