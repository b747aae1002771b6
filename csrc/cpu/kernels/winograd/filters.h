// The function `filter` of winograd.h, once for every ISA.
//
//   for channel:
//     for half vectors of lanes:                         G along the columns of the filter, in double    on the stack
//     for row of positions:  for vectors of lanes:       G along it, rounded once to float
//       dst[position][channel][lane]
//
// Points come in pairs +p, -p: with E and O the even and odd powers, both divided by the product over the other points,
// rows +p and -p of G are E + O and E - O.
// A row of positions is finished for all lanes before the next: positions lie a power of two apart where the channels
// are many, and a cache line that is left half written is gone when the other half comes.
// Registers: 2 to 7 taps, a line of up to 8 positions narrowed to half a vector each, two temporaries.
#pragma once

#include "../../simd.h"
#include "winograd.h"

namespace {

using namespace fastconv;

using Doubles = Vector<double>;
typedef float HalfFloats __attribute__((vector_size(FASTCONV_VECTOR_BYTES / 2)));

FASTCONV_INLINE Doubles load_doubles(const float* p) {
  HalfFloats half;
  __builtin_memcpy(&half, p, sizeof half);
  return __builtin_convertvector(half, Doubles);
}

template <int... l>
FASTCONV_INLINE Vector<float> joined(HalfFloats low, HalfFloats high, Indices<l...>) {
  return __builtin_shufflevector(low, high, l...);
}

// G of an axis but for its last row: at[0] of the point 0, then each pair's p^k divided by the others.
template <int alpha, int taps>
struct FilterPoints {
  double zero = 1;
  double pair[alpha / 2][taps] = {};
};
template <int alpha, int taps>
constexpr FilterPoints<alpha, taps> filter_points() {
  constexpr int pairs = alpha / 2 - 1;
  FilterPoints<alpha, taps> g;
  for (int q = 0; q < pairs; ++q) {
    const double point = kWinogradPoints[pairs - 1][q], square = point * point;
    g.zero /= -square;
    double value = 1 / (2 * square);
    for (int other = 0; other < pairs; ++other)
      if (other != q) value /= square - kWinogradPoints[pairs - 1][other] * kWinogradPoints[pairs - 1][other];
    for (int k = 0; k < taps; ++k, value *= point) g.pair[q][k] = value;
  }
  return g;
}

template <int alpha, int taps>
FASTCONV_INLINE void filter_line(const Doubles (&in)[taps], Doubles (&out)[alpha]) {
  if constexpr (alpha == 1) {
    out[0] = in[0];
  } else {
    constexpr FilterPoints<alpha, taps> g = filter_points<alpha, taps>();
    out[0] = in[0] * g.zero;
    out[alpha - 1] = in[taps - 1];
#pragma GCC unroll 4
    for (int q = 0; q < alpha / 2 - 1; ++q) {
      Doubles even = in[0] * g.pair[q][0], odd = in[1] * g.pair[q][1];
#pragma GCC unroll 8
      for (int k = 2; k < taps; ++k) (k % 2 ? odd : even) += in[k] * g.pair[q][k];
      out[1 + 2 * q] = even + odd;
      out[2 + 2 * q] = even - odd;
    }
  }
}

template <int alpha, int taps>
FASTCONV_INLINE void narrow_line(const Doubles (&in)[taps], HalfFloats (&out)[alpha]) {
  Doubles wide[alpha];
  filter_line<alpha, taps>(in, wide);
#pragma GCC unroll 8
  for (int j = 0; j < alpha; ++j) out[j] = __builtin_convertvector(wide[j], HalfFloats);
}

// Taps of a filter of so many columns, from `src` on in steps (backwards where they are negative), to
// block[half vector][row of positions][column], for one channel. `known`: the number of columns, or 0.
template <int form, int known>
FASTCONV_INLINE void columns_of(const float* src, int64_t step, int64_t columns, int64_t halves, Doubles* block) {
  constexpr int alpha = kWinogradForms[form].alpha, taps = alpha - kWinogradForms[form].results + 1;
  const int64_t count = known ? known : columns;
#pragma GCC unroll 1
  for (int64_t v = 0; v < halves; ++v, block += alpha * count)
#pragma GCC unroll 1
    for (int64_t s = 0; s < count; ++s) {
      Doubles in[taps], out[alpha];
#pragma GCC unroll 8
      for (int k = 0; k < taps; ++k) in[k] = load_doubles(src + (k * count + s) * step + v * kLanes<double>);
      filter_line<alpha, taps>(in, out);
#pragma GCC unroll 8
      for (int i = 0; i < alpha; ++i) block[i * count + s] = out[i];
    }
}

// From there to dst[position][lane]. `known`: the number of rows, or 0.
template <int form, int known>
FASTCONV_INLINE void rows_of(const Doubles* block, int64_t rows, int64_t halves, float* dst, int64_t position) {
  constexpr int alpha = kWinogradForms[form].alpha, taps = alpha - kWinogradForms[form].results + 1;
  const int64_t count = known ? known : rows;
#pragma GCC unroll 1
  for (int64_t i = 0; i < count; ++i, block += taps, dst += alpha * position) {
    const Doubles* from = block;
#pragma GCC unroll 1
    for (int64_t v = 0; v < halves; v += 2, from += 2 * count * taps) {
      Doubles low[taps], high[taps];
#pragma GCC unroll 8
      for (int k = 0; k < taps; ++k) low[k] = from[k], high[k] = from[count * taps + k];
      HalfFloats low_half[alpha], high_half[alpha];
      narrow_line<alpha, taps>(low, low_half);
      narrow_line<alpha, taps>(high, high_half);
      float* to = dst + v * kLanes<double>;
#pragma GCC unroll 8
      for (int j = 0; j < alpha; ++j, to += position)
        store(to, joined(low_half[j], high_half[j], typename MakeIndices<kLanes<float>>::type{}));
    }
  }
}

template <class Columns, class Rows>
FASTCONV_INLINE void transform_channels(const WinogradFilter& f, const Columns& columns, const Rows& rows) {
  const WinogradForm &h = kWinogradForms[f.form_h], &w = kWinogradForms[f.form_w];
  const int64_t ker_w = w.alpha - w.results + 1, taps = (h.alpha - h.results + 1) * ker_w;
  const int64_t halves = f.width / kLanes<double>;
  Doubles block[4 * kMaxAlpha * kMaxAlpha];
  for (int64_t c = 0; c < f.channels; ++c) {
    const float* const src = f.src + c * f.channel;
    columns(f.flip ? src + (taps - 1) * f.width : src, f.flip ? -f.width : f.width, ker_w, halves, block);
    rows(block, h.alpha, halves, f.dst + c * f.width, f.position);
  }
}

template <int form>
void transform_square(const WinogradFilter& f) {
  constexpr int alpha = kWinogradForms[form].alpha, taps = alpha - kWinogradForms[form].results + 1;
  transform_channels(f, columns_of<form, taps>, rows_of<form, alpha>);
}
template <int form>
void any_columns(const float* src, int64_t step, int64_t columns, int64_t halves, Doubles* block) {
  columns_of<form, 0>(src, step, columns, halves, block);
}
template <int form>
void any_rows(const Doubles* block, int64_t rows, int64_t halves, float* dst, int64_t position) {
  rows_of<form, 0>(block, rows, halves, dst, position);
}

struct FilterAxis {
  void (*square)(const WinogradFilter&);
  void (*columns)(const float*, int64_t, int64_t, int64_t, Doubles*);
  void (*rows)(const Doubles*, int64_t, int64_t, float*, int64_t);
};
struct FilterAxes {
  FilterAxis of[kWinogradFormCount];
};
template <int... form>
constexpr FilterAxes filter_axes(Indices<form...>) {
  return {{{transform_square<form>, any_columns<form>, any_rows<form>}...}};
}
constexpr FilterAxes kFilterAxes = filter_axes(MakeIndices<kWinogradFormCount>::type{});

// Square kernels have code of their own, others one axis after the other: code for each pair of forms was three times
// as long.
void transform_filters(const WinogradFilter& f) {
  if (f.form_h == f.form_w)
    kFilterAxes.of[f.form_h].square(f);
  else
    transform_channels(f, kFilterAxes.of[f.form_h].columns, kFilterAxes.of[f.form_w].rows);
}

}  // namespace
