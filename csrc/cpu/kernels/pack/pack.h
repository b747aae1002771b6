// Moving data into the panels that the tiles read. No arithmetic.
//
// pixels     panel[(c * taps + t) * width + lane] = src[c * plane + tap_offset[t] + offset of the lane's pixel]
//            The lanes are given as runs of pixels that are neighbours in src. Lanes behind the last run are 0, up to
//            `padded`.
//              panel:  (c0,t0): p0 p1 .. p(width-1) | (c0,t1): ... | ... | (c1,t0): ...
//            exact == false: whole vectors are moved; src must be readable, and panel writeable, one vector
//            (kPackSlack elements) beyond what is named. exact == true: not an element more is read; nor written where
//            `padded` is 0. Padded rows are whole ones, and what hangs over one is written again with the next.
// transpose  panel[k * panel_row + i] = src[i * row_stride + k],  i < rows; 0 for rows <= i < width
// pad_rows   row r of dst:  0 for q < begin;  src[r * src_row + (q - begin) * step] for begin <= q < end;  0 up to
// width
//            Reads and writes nothing else.
// divide     row r of dst, its phases side by side:  dst[phase * width + q] = src[r * src_row + first + q * step +
//            phase], q < width, phase < step, where that column, counted from src, is one of `count`; 0 elsewhere.
//            step 2 or 4. Reads and writes nothing else.
// spread     panel[c * panel_channel + m.to + lane] = src[c * plane + m.from + lane * step] for each move m, in their
//            order, for lanes [m.begin, m.end); 0 for the others; step 1, 2 or 4. Moves say how they read: `step *
//            lanes` elements, `part` and `whole` the same, `whole` all lanes; `careful` the elements of its lanes
//            alone; `zeros` none. A whole vector is written: what hangs over belongs to a later move, or lies within
//            kPackSlack elements behind the panel.
// interleave row r of dst:  dst[j] = src[j % step * phase + r * src_row + j / step], j < count. Reads no row
//            of src beyond the last element taken from it.
#pragma once

#include <stdint.h>

namespace fastconv {

struct PixelRun {
  int64_t from;  // offset in src, in elements
  int64_t lane, count;
};

template <class T>
struct PixelPanel {
  T* panel;
  int64_t width, padded;
  const T* src;
  int64_t channels, plane;
  const int64_t* tap_offset;
  int64_t taps;
  const PixelRun* runs;
  int64_t run_count;
  bool exact;
};

template <class T>
struct TransposePanel {
  T* panel;
  int64_t panel_row, width;
  const T* src;
  int64_t row_stride;
  int64_t rows, count;
};

template <class T>
struct PaddedRows {
  T* dst;
  int64_t dst_row, width, begin, end;
  const T* src;
  int64_t src_row, step, rows;
};

template <class T>
struct DividedRows {
  T* dst;
  int64_t dst_row, width;
  const T* src;
  int64_t src_row, count, first, step, rows;
};

enum class SpreadKind : int32_t { whole, part, careful, zeros };

struct SpreadMove {
  int64_t from;
  int32_t to;
  SpreadKind kind;
  int32_t begin, end;
};

template <class T>
struct SpreadPanel {
  T* panel;
  int64_t panel_channel;
  const T* src;
  int64_t plane, step, channels;
  const SpreadMove* moves;
  int64_t count;
};

template <class T>
struct InterleavedRows {
  T* dst;
  int64_t dst_row, count;
  const T* src;
  int64_t src_row, phase, step, rows;
};

constexpr int64_t kPackSlack = 16;  // elements in the widest vector

template <class T>
struct PackKernel {
  void (*pixels)(const PixelPanel<T>&);
  void (*transpose)(const TransposePanel<T>&);
  void (*pad_rows)(const PaddedRows<T>&);
  void (*divide)(const DividedRows<T>&);
  void (*spread)(const SpreadPanel<T>&);
  void (*interleave)(const InterleavedRows<T>&);
};

struct PackKernels {
  PackKernel<float> f32;
  PackKernel<double> f64;
};

extern const PackKernels pack_baseline, pack_avx2, pack_avx512, pack_neon;

}  // namespace fastconv
