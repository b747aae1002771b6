// The function `filter` of winograd.h, once for every ISA.
//
//   for channel:
//     for vectors of lanes:                              G along the columns of the filter, in double    on the stack
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

// One channel, `vectors` of lanes.
template <int form_h, int form_w, int vectors>
FASTCONV_INLINE void transform_filter(const WinogradFilter& f, const float* src, float* dst) {
  constexpr int alpha_h = kWinogradForms[form_h].alpha, alpha_w = kWinogradForms[form_w].alpha;
  constexpr int ker_h = alpha_h - kWinogradForms[form_h].results + 1;
  constexpr int ker_w = alpha_w - kWinogradForms[form_w].results + 1;
  constexpr int lanes = kLanes<double>, taps = ker_h * ker_w;
  Doubles block[2 * vectors][alpha_h][ker_w];
#pragma GCC unroll 1
  for (int v = 0; v < 2 * vectors; ++v)
#pragma GCC unroll 1
    for (int s = 0; s < ker_w; ++s) {
      Doubles in[ker_h], out[alpha_h];
#pragma GCC unroll 8
      for (int k = 0; k < ker_h; ++k) {
        const int tap = k * ker_w + s;
        in[k] = load_doubles(src + (f.flip ? taps - 1 - tap : tap) * f.width + v * lanes);
      }
      filter_line<alpha_h, ker_h>(in, out);
#pragma GCC unroll 8
      for (int i = 0; i < alpha_h; ++i) block[v][i][s] = out[i];
    }
#pragma GCC unroll 1
  for (int i = 0; i < alpha_h; ++i, dst += alpha_w * f.position)
#pragma GCC unroll 1
    for (int v = 0; v < vectors; ++v) {
      HalfFloats low[alpha_w], high[alpha_w];
      narrow_line<alpha_w, ker_w>(block[2 * v][i], low);
      narrow_line<alpha_w, ker_w>(block[2 * v + 1][i], high);
#pragma GCC unroll 8
      for (int j = 0; j < alpha_w; ++j)
        store(dst + j * f.position + v * kLanes<float>,
              joined(low[j], high[j], typename MakeIndices<kLanes<float>>::type{}));
    }
}

template <int form_h, int form_w>
void transform_filters(const WinogradFilter& f) {
  for (int64_t c = 0; c < f.channels; ++c)
    if (f.width == kLanes<float>)
      transform_filter<form_h, form_w, 1>(f, f.src + c * f.channel, f.dst + c * f.width);
    else
      transform_filter<form_h, form_w, 2>(f, f.src + c * f.channel, f.dst + c * f.width);
}

}  // namespace
