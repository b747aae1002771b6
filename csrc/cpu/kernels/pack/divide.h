// The mover `divide` of pack.h: rows of every phase of a stride, from one reading of the source.
//
//   for row: the columns of which a phase lies outside, one by one;  `step` vectors in, `step` vectors out, one for
//   each phase; the last ones overlap those before them
// Registers: `step` vectors, and as many for what becomes of them.
#pragma once

#include "../../simd.h"
#include "pack.h"

namespace {

using fastconv::DividedRows;

// The elements [q * step, (q + lanes) * step) of a row, of each phase those that are its own.
template <int step, class T>
FASTCONV_INLINE void divide_vectors(const T* src, T* dst, int64_t width) {
  constexpr int lanes = kLanes<T>;
  const auto even = [](Vector<T> a, Vector<T> b) { return even_lanes<T>(a, b); };
  const auto odd = [](Vector<T> a, Vector<T> b) { return odd_lanes<T>(a, b); };
  if constexpr (step == 2) {
    const Vector<T> a = load(src), b = load(src + lanes);
    store(dst, even(a, b));
    store(dst + width, odd(a, b));
  } else {
    const Vector<T> a = load(src), b = load(src + lanes), c = load(src + 2 * lanes), d = load(src + 3 * lanes);
    const Vector<T> even0 = even(a, b), even1 = even(c, d), odd0 = odd(a, b), odd1 = odd(c, d);
    store(dst, even(even0, even1));
    store(dst + width, even(odd0, odd1));
    store(dst + 2 * width, odd(even0, even1));
    store(dst + 3 * width, odd(odd0, odd1));
  }
}

template <int step, class T>
void divide_rows(const DividedRows<T>& p) {
  constexpr int lanes = kLanes<T>;
  const int64_t width = p.width, first = p.first, last = p.count - first;
  // All phases of columns [begin, end) lie inside.
  int64_t begin = first < 0 ? (step - 1 - first) / step : 0, end = last > 0 ? last / step : 0;
  if (begin > width) begin = width;
  if (end > width) end = width;
  const T* src = p.src + first;
  T* dst = p.dst;
  for (int64_t r = 0; r < p.rows; ++r, src += p.src_row, dst += p.dst_row) {
    const auto one = [&](int64_t q) {
#pragma GCC unroll 4
      for (int64_t phase = 0; phase < step; ++phase) {
        const int64_t at = q * step + phase;
        dst[phase * width + q] = at >= -first && at < last ? src[at] : T{0};
      }
    };
    int64_t q = 0;
    for (; q < begin; ++q) one(q);
    if (begin + lanes <= end) {
      for (; q + lanes <= end; q += lanes) divide_vectors<step>(src + q * step, dst + q, width);
      if (q < end) divide_vectors<step>(src + (end - lanes) * step, dst + end - lanes, width);
      q = end;
    }
    for (; q < width; ++q) one(q);
  }
}

template <class T>
void divide(const DividedRows<T>& p) {
  p.step == 2 ? divide_rows<2>(p) : divide_rows<4>(p);
}

}  // namespace
