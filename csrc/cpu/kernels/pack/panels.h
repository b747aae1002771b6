// The movers of pack.h, once for every ISA.
//
//   pixels:     for c in channels: for t in taps: for run in runs: whole vectors from src to the panel's row
//               A vector may run over the end of its run: the next run, or the next row, is written after it.
//               Where a row is a few vectors only, which they are is found out once.
//   transpose:  blocks of lanes x lanes through registers (simd.h), the rest element by element
//   pad_rows:   zeros, vectors, zeros; steps 2 and 4 take every other lane of two vectors, once or twice
//   divide:     divide.h
//   spread:     spread.h
//   interleave: a vector of each of two rows, their lanes in turn; other steps element by element
// Registers: one vector for pixels, up to four for pad_rows, `lanes` for transpose (16 of 32 with AVX-512, 8 of 16 with
// AVX2).
// Tried and lost: gather instructions for the pixels (about one element a cycle, where a run moves a vector); asking
// for the rows some channels ahead; a tile's panel packed just before its first use, its rows asked for by the tile
// before. Masked stores at the ends of rows lost as well: on AVX2 processors that split them they cost as much as a
// short row.
#pragma once

#include "../../simd.h"
#include "divide.h"
#include "pack.h"
#include "spread.h"

namespace {

using fastconv::InterleavedRows;
using fastconv::PackKernel;
using fastconv::PaddedRows;
using fastconv::PixelPanel;
using fastconv::PixelRun;
using fastconv::TransposePanel;

template <class T>
FASTCONV_INLINE void copy_exact(T* dst, const T* src, int64_t count) {
  int64_t q = 0;
  for (; q + kLanes<T> <= count; q += kLanes<T>) store(dst + q, load(src + q));
  for (; q < count; ++q) dst[q] = src[q];
}

template <class T>
FASTCONV_INLINE void copy_vectors(T* dst, const T* src, int64_t count) {
  for (int64_t q = 0; q < count; q += kLanes<T>) store(dst + q, load(src + q));
}

template <class T>
FASTCONV_INLINE void zero_vectors(T* dst, int64_t count) {
  for (int64_t q = 0; q < count; q += kLanes<T>) store(dst + q, Vector<T>{});
}

template <class T, bool exact>
FASTCONV_INLINE void pack_row(T* row, const T* src, const PixelPanel<T>& p, int64_t used) {
  for (int64_t r = 0; r < p.run_count; ++r) {
    const PixelRun& run = p.runs[r];
    if constexpr (exact)
      copy_exact(row + run.lane, src + run.from, run.count);
    else
      copy_vectors(row + run.lane, src + run.from, run.count);
  }
  if constexpr (exact)
    for (int64_t lane = used; lane < p.padded; ++lane) row[lane] = T{0};
  else if (used < p.padded)
    zero_vectors(row + used, p.padded - used);
}

template <class T, bool exact>
FASTCONV_INLINE void pack_rows(const PixelPanel<T>& p) {
  const PixelRun& last = p.runs[p.run_count - 1];
  const int64_t used = last.lane + last.count;
  T* row = p.panel;
  for (int64_t c = 0; c < p.channels; ++c)
    for (int64_t t = 0; t < p.taps; ++t, row += p.width)
      pack_row<T, exact>(row, p.src + c * p.plane + p.tap_offset[t], p, used);
}

// One vector of a panel's row, or the first `count` lanes of it.
struct Move {
  int64_t from, lane;
  int count;
};
constexpr int kMoves = 4;

// Rows of a usual tile, which are a few vectors each: a straight line of loads and stores. Everything that the loop
// needs is copied first, since a store could change what lies in memory.
template <class T, int moves, bool exact>
void pack_moves(const PixelPanel<T>& p, const Move* move, int64_t used) {
  int64_t from[moves], lane[moves];
  int count[moves];
#pragma GCC unroll 8
  for (int i = 0; i < moves; ++i) from[i] = move[i].from, lane[i] = move[i].lane, count[i] = move[i].count;
  const int64_t channels = p.channels, plane = p.plane, taps = p.taps, width = p.width, padded = p.padded;
  const int64_t* const tap = p.tap_offset;
  T* row = p.panel;
  const T* src = p.src;
  for (int64_t c = 0; c < channels; ++c, src += plane)
    for (int64_t t = 0; t < taps; ++t, row += width) {
      const T* const first = src + tap[t];
#pragma GCC unroll 8
      for (int i = 0; i < moves; ++i) {
        if (!exact || count[i] == kLanes<T>)
          store(row + lane[i], load(first + from[i]));
        else if (padded > 0)
          store(row + lane[i], load_some(first + from[i], count[i]));
        else
          store_some(row + lane[i], load_some(first + from[i], count[i]), count[i]);
      }
      for (int64_t q = used; q < padded; q += kLanes<T>) store(row + q, Vector<T>{});
    }
}

// The same of one tap and nothing behind what is used. So little stands between two loads, each of another row and
// often another page, that many of them are on their way at once.
template <class T, int moves>
void pack_one_tap(const PixelPanel<T>& p, const Move* move) {
  int64_t from[moves], lane[moves];
#pragma GCC unroll 8
  for (int i = 0; i < moves; ++i) from[i] = move[i].from, lane[i] = move[i].lane;
  const int64_t plane = p.plane, width = p.width;
  T* row = p.panel;
  const T* src = p.src + p.tap_offset[0];
  for (int64_t c = p.channels; c > 0; --c, src += plane, row += width) {
#pragma GCC unroll 8
    for (int i = 0; i < moves; ++i) store(row + lane[i], load(src + from[i]));
  }
}

template <class T, bool exact>
void pack_few(const PixelPanel<T>& p, const Move* move, int count, int64_t used) {
  if (!exact && p.taps == 1 && used >= p.padded && count <= 2)
    return count == 1 ? pack_one_tap<T, 1>(p, move) : pack_one_tap<T, 2>(p, move);
  if (count == 1) return pack_moves<T, 1, exact>(p, move, used);
  if (count == 2) return pack_moves<T, 2, exact>(p, move, used);
  if (count == 3) return pack_moves<T, 3, exact>(p, move, used);
  pack_moves<T, 4, exact>(p, move, used);
}

template <class T>
void pack_pixels(const PixelPanel<T>& p) {
  Move moves[kMoves] = {};
  int count = 0;
  bool whole = true;
  for (int64_t r = 0; r < p.run_count && count <= kMoves; ++r)
    for (int64_t q = 0; q < p.runs[r].count && count <= kMoves; q += kLanes<T>, ++count) {
      if (count == kMoves) continue;
      const int64_t left = p.runs[r].count - q;
      moves[count] = {p.runs[r].from + q, p.runs[r].lane + q, (int)(left < kLanes<T> ? left : kLanes<T>)};
      whole &= left >= kLanes<T>;
    }
  if (count > kMoves) return p.exact ? pack_rows<T, true>(p) : pack_rows<T, false>(p);
  const PixelRun& last = p.runs[p.run_count - 1];
  const int64_t used = last.lane + last.count;
  p.exact && !(whole && used >= p.padded) ? pack_few<T, true>(p, moves, count, used)
                                          : pack_few<T, false>(p, moves, count, used);
}

template <class T>
FASTCONV_INLINE void transpose_block(T* panel, int64_t width, const T* src, int64_t row_stride) {
  constexpr int lanes = kLanes<T>;
  Vector<T> block[lanes];
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) block[i] = load(src + i * row_stride);
  transpose<T>(block);
#pragma GCC unroll 16
  for (int k = 0; k < lanes; ++k) store(panel + k * width, block[k]);
}

// Fewer rows than lanes: of each vector that is stored the last lanes are zeros, and fall on what is written next.
template <class T>
FASTCONV_INLINE void transpose_some_rows(T* panel, int64_t width, const T* src, int64_t row_stride, int rows) {
  constexpr int lanes = kLanes<T>;
  Vector<T> block[lanes];
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) block[i] = i < rows ? load(src + i * row_stride) : Vector<T>{};
  transpose<T>(block);
#pragma GCC unroll 16
  for (int k = 0; k < lanes; ++k) store(panel + k * width, block[k]);
}

template <class T>
void pack_transpose(const TransposePanel<T>& p) {
  constexpr int lanes = kLanes<T>;
  const int64_t blocked_rows = p.rows / lanes * lanes, blocked_count = p.count / lanes * lanes;
  for (int64_t i = 0; i < blocked_rows; i += lanes) {
    for (int64_t k = 0; k < blocked_count; k += lanes)
      transpose_block(p.panel + k * p.panel_row + i, p.panel_row, p.src + i * p.row_stride + k, p.row_stride);
    for (int64_t k = blocked_count; k < p.count; ++k)
      for (int64_t j = i; j < i + lanes; ++j) p.panel[k * p.panel_row + j] = p.src[j * p.row_stride + k];
  }
  if (blocked_rows == p.width) return;
  int64_t k = 0;
  // A panel alone, of one vector: what hangs over a row is written again with the next one, and the last ones go
  // element by element.
  const bool narrow = blocked_rows == 0 && p.panel_row == p.width && p.width <= lanes;
  if (p.rows > blocked_rows && (narrow || p.width - blocked_rows == lanes)) {
    const int64_t end = p.count * p.panel_row;
    for (; k + lanes <= p.count && (k + lanes - 1) * p.panel_row + blocked_rows + lanes <= end; k += lanes)
      transpose_some_rows(p.panel + k * p.panel_row + blocked_rows, p.panel_row,
                          p.src + blocked_rows * p.row_stride + k, p.row_stride, (int)(p.rows - blocked_rows));
  }
  for (; k < p.count; ++k) {
    T* const row = p.panel + k * p.panel_row;
    for (int64_t i = blocked_rows; i < p.rows; ++i) row[i] = p.src[i * p.row_stride + k];
    for (int64_t i = p.rows; i < p.width; ++i) row[i] = T{0};
  }
}

// The first `count` lanes, fewer than all: by halves, where a masked store would cost more than all of them.
template <class T>
FASTCONV_INLINE void store_few(T* dst, Vector<T> v, int64_t count) {
#if FASTCONV_VECTOR_BYTES == 64
  if (count > 0) store_some(dst, v, (int)count);
#else
  T lanes[kLanes<T>];
  store(lanes, v);
  int64_t done = 0;
  if (kLanes<T> > 4 && (count & 4)) __builtin_memcpy(dst, lanes, 4 * sizeof(T)), done = 4;
  if (kLanes<T> > 2 && (count & 2)) __builtin_memcpy(dst + done, lanes + done, 2 * sizeof(T)), done += 2;
  if (count & 1) dst[done] = lanes[done];
#endif
}

template <class T>
FASTCONV_INLINE void zero_exact(T* dst, int64_t count) {
  int64_t q = 0;
  for (; q + kLanes<T> <= count; q += kLanes<T>) store(dst + q, Vector<T>{});
  store_few(dst + q, Vector<T>{}, count - q);
}

// A row shorter than a vector.
template <int step, class T>
FASTCONV_INLINE void spread_short(T* dst, const T* src, int64_t count) {
  constexpr int lanes = kLanes<T>;
  if (count <= 0) return;
  const int reach = step * (int)(count - 1) + 1;  // elements from the first taken to the last
  if constexpr (step == 1) {
    store_few(dst, load_some(src, reach), count);
  } else if constexpr (step == 2) {
    const Vector<T> low = reach >= lanes ? load(src) : load_some(src, reach);
    const Vector<T> high = reach > lanes ? load_some(src + lanes, reach - lanes) : Vector<T>{};
    store_few(dst, even_lanes<T>(low, high), count);
  } else {
    for (int64_t q = 0; q < count; ++q) dst[q] = src[q * step];
  }
}

// Whole vectors, the last of which overlaps the one before it: a stage has other rows behind this one, and so has the
// source. With a step the last element goes alone, for what would be loaded behind it.
template <int step, class T>
FASTCONV_INLINE void spread_row(T* dst, const T* src, int64_t count) {
  constexpr int lanes = kLanes<T>;
  const int64_t alone = step == 1 ? 0 : 1, whole = count - alone;
  if (whole < lanes) {  // `whole` elements and the last one, so that a short row is never a full vector
    spread_short<step>(dst, src, whole);
    if (alone && count > 0) dst[count - 1] = src[step * (count - 1)];
    return;
  }
  for (int64_t q = 0; q + lanes <= whole; q += lanes) store(dst + q, load_spread<step>(src + step * q));
  if (whole % lanes) store(dst + whole - lanes, load_spread<step>(src + step * (whole - lanes)));
  if (alone) dst[count - 1] = src[step * (count - 1)];
}

// Zeros of a row, up to a vector of them at either end as whole vectors that the row is then written over.
template <int step, class T>
FASTCONV_INLINE void pad_rows_by(const PaddedRows<T>& p) {
  constexpr int lanes = kLanes<T>;
  const int64_t width = p.width, begin = p.begin, end = p.end, dst_row = p.dst_row, src_row = p.src_row;
  const bool few = begin <= lanes && width - end <= lanes && width >= lanes;
  const T* src = p.src;
  T* dst = p.dst;
  for (int64_t r = p.rows; r > 0; --r, dst += dst_row, src += src_row) {
    if (!few) {
      zero_exact(dst, begin);
      zero_exact(dst + end, width - end);
    } else {
      if (begin > 0) store(dst, Vector<T>{});
      if (end < width) store(dst + width - lanes, Vector<T>{});
    }
    spread_row<step>(dst + begin, src, end - begin);
  }
}

template <class T>
void pad_rows(const PaddedRows<T>& p) {
  if (p.step == 1) return pad_rows_by<1>(p);
  if (p.step == 2) return pad_rows_by<2>(p);
  if (p.step == 4) return pad_rows_by<4>(p);
  T* dst = p.dst;
  const T* src = p.src;
  for (int64_t r = 0; r < p.rows; ++r, dst += p.dst_row, src += p.src_row) {
    zero_exact(dst, p.begin);
    for (int64_t q = 0; q < p.end - p.begin; ++q) dst[p.begin + q] = src[q * p.step];
    zero_exact(dst + p.end, p.width - p.end);
  }
}

// The lanes of a and b in turn: the first half of the 2 * lanes elements becomes a, the second b.
template <int half, class V, int... l>
FASTCONV_INLINE V zip_half(V a, V b, Indices<l...>) {
  constexpr int n = sizeof...(l);
  return __builtin_shufflevector(a, b, (half * n / 2 + l / 2 + (l % 2) * n)...);
}
template <class T>
FASTCONV_INLINE void zip(Vector<T>& a, Vector<T>& b) {
  const Vector<T> low = zip_half<0>(a, b, typename MakeIndices<kLanes<T>>::type{});
  b = zip_half<1>(a, b, typename MakeIndices<kLanes<T>>::type{});
  a = low;
}

// `pairs` elements of each of two phases. The last vectors overlap those before them.
template <class T>
FASTCONV_INLINE void interleave_pairs(T* dst, const T* even, const T* odd, int64_t pairs) {
  constexpr int lanes = kLanes<T>;
  const auto move = [&](int64_t q) {
    Vector<T> a = load(even + q), b = load(odd + q);
    zip<T>(a, b);
    store(dst + 2 * q, a);
    store(dst + 2 * q + lanes, b);
  };
  int64_t q = 0;
  for (; q + lanes <= pairs; q += lanes) move(q);
  if (q < pairs && pairs >= lanes) move(pairs - lanes);
  if (pairs >= lanes) return;
  for (; q < pairs; ++q) dst[2 * q] = even[q], dst[2 * q + 1] = odd[q];
}

template <class T>
void interleave_rows(const InterleavedRows<T>& p) {
  T* dst = p.dst;
  const T* src = p.src;
  for (int64_t r = 0; r < p.rows; ++r, dst += p.dst_row, src += p.src_row) {
    if (p.step == 2) {
      interleave_pairs(dst, src, src + p.phase, p.count / 2);
      if (p.count % 2) dst[p.count - 1] = src[p.count / 2];
      continue;
    }
    for (int64_t i = 0; i < p.step; ++i)
      for (int64_t j = i, q = 0; j < p.count; j += p.step, ++q) dst[j] = src[i * p.phase + q];
  }
}

template <class T>
constexpr PackKernel<T> make_pack_kernel() {
  return {pack_pixels<T>, pack_transpose<T>, pad_rows<T>, divide<T>, spread<T>, interleave_rows<T>};
}

}  // namespace
