// The functions of winograd.h, once for every ISA; an ISA file sets FASTCONV_VECTOR_BYTES and includes this.
//
// Points come in pairs +p, -p, so that even and odd powers are summed once for both: with E(x^2) the product of
// (x^2 - q^2) over the other pairs, rows +p and -p of B are  x^2 E +- p x E.  Per line of alpha elements that is 4, 12
// and 24 operations for alpha = 4, 6, 8.
//
// Weight gradients use the same matrices transposed: `spread` brings a gradient's results to the points, `taps` the
// sums at the points to the filter. Filters have a header of their own, filters.h.
//
// A tile is transformed along its columns into a small block on the stack, then along its rows. The block of alpha = 6
// and 8 exceeds the registers: it is kept as memory on purpose, and a line of it in registers.
#pragma once

#include "../../simd.h"
#include "filters.h"
#include "winograd.h"

namespace {

using namespace fastconv;

using Floats = Vector<float>;

// Coefficients of the product of (x - p^2) over all pairs but `skip` (-1: none), the constant one first.
template <int pairs>
struct Coefficients {
  float at[pairs + 1];
};
template <int pairs>
constexpr Coefficients<pairs> product_without(int skip) {
  double c[pairs + 1] = {1};
  int degree = 0;
  for (int i = 0; i < pairs; ++i) {
    if (i == skip) continue;
    const double square = kWinogradPoints[pairs - 1][i] * kWinogradPoints[pairs - 1][i];
    ++degree;
    for (int k = degree; k >= 0; --k) c[k] = (k > 0 ? c[k - 1] : 0) - (k < degree ? square * c[k] : 0);
  }
  Coefficients<pairs> result{};
  for (int k = 0; k <= pairs; ++k) result.at[k] = static_cast<float>(c[k]);
  return result;
}

// in[first] * c[0] + in[first + 2] * c[1] + .., the last coefficient being 1.
template <int count, int first, int pairs, int alpha>
FASTCONV_INLINE Floats every_second(const Floats (&in)[alpha], const Coefficients<pairs>& c) {
  Floats sum = in[first + 2 * (count - 1)];
#pragma GCC unroll 8
  for (int k = count - 2; k >= 0; --k) sum += in[first + 2 * k] * c.at[k];
  return sum;
}

template <int pair, int alpha>
FASTCONV_INLINE void input_pair(const Floats (&in)[alpha], Floats (&out)[alpha]) {
  constexpr int pairs = alpha / 2 - 1;
  constexpr Coefficients<pairs> others = product_without<pairs>(pair);
  constexpr float point = static_cast<float>(kWinogradPoints[pairs - 1][pair]);
  const Floats even = every_second<pairs, 2>(in, others), odd = every_second<pairs, 1>(in, others);
  out[1 + 2 * pair] = even + odd * point;
  out[2 + 2 * pair] = even - odd * point;
  if constexpr (pair + 1 < pairs) input_pair<pair + 1>(in, out);
}

template <int alpha>
FASTCONV_INLINE void input_line(const Floats (&in)[alpha], Floats (&out)[alpha]) {
  if constexpr (alpha == 1) {
    out[0] = in[0];
  } else {
    constexpr int pairs = alpha / 2 - 1;
    constexpr Coefficients<pairs> all = product_without<pairs>(-1);
    out[0] = every_second<pairs + 1, 0>(in, all);
    out[alpha - 1] = every_second<pairs + 1, 1>(in, all);
    input_pair<0>(in, out);
  }
}

constexpr float power(double x, int n) {
  double result = 1;
  for (int i = 0; i < n; ++i) result *= x;
  return static_cast<float>(result);
}

template <int alpha, int results>
FASTCONV_INLINE void output_line(const Floats (&in)[alpha], Floats (&out)[results]) {
  if constexpr (alpha == 1) {
    out[0] = in[0];
  } else {
    constexpr int pairs = alpha / 2 - 1;
    Floats sum[pairs], difference[pairs];
#pragma GCC unroll 4
    for (int q = 0; q < pairs; ++q) {
      sum[q] = in[1 + 2 * q] + in[2 + 2 * q];
      difference[q] = in[1 + 2 * q] - in[2 + 2 * q];
    }
#pragma GCC unroll 8
    for (int i = 0; i < results; ++i) {
      Floats value =
          i == 0 ? in[0] + sum[0] : (i % 2 ? difference[0] : sum[0]) * power(kWinogradPoints[pairs - 1][0], i);
      if (i == results - 1) value += in[alpha - 1];
#pragma GCC unroll 4
      for (int q = 1; q < pairs; ++q)
        value += (i % 2 ? difference[q] : sum[q]) * power(kWinogradPoints[pairs - 1][q], i);
      out[i] = value;
    }
  }
}

// Of the product of (p^2 - q^2) over the other pairs, twice p^2 of it; and of -q^2 over all pairs: G's denominators.
constexpr float pair_scale(int pairs, int pair) {
  const double* const points = kWinogradPoints[pairs - 1];
  double value = 2 * points[pair] * points[pair];
  for (int q = 0; q < pairs; ++q)
    if (q != pair) value *= points[pair] * points[pair] - points[q] * points[q];
  return static_cast<float>(1 / value);
}
constexpr float zero_scale(int pairs) {
  double value = 1;
  for (int q = 0; q < pairs; ++q) value *= -kWinogradPoints[pairs - 1][q] * kWinogradPoints[pairs - 1][q];
  return static_cast<float>(1 / value);
}

// G^T: powers of the points as in A, of the scaled sums.
template <int alpha, int taps>
FASTCONV_INLINE void taps_line(const Floats (&in)[alpha], Floats (&out)[taps]) {
  if constexpr (alpha == 1) {
    out[0] = in[0];
  } else {
    constexpr int pairs = alpha / 2 - 1;
    Floats scaled[alpha];
    scaled[0] = in[0] * zero_scale(pairs);
    scaled[alpha - 1] = in[alpha - 1];
#pragma GCC unroll 4
    for (int q = 0; q < pairs; ++q) {
      scaled[1 + 2 * q] = in[1 + 2 * q] * pair_scale(pairs, q);
      scaled[2 + 2 * q] = in[2 + 2 * q] * pair_scale(pairs, q);
    }
    output_line<alpha, taps>(scaled, out);
  }
}

// A^T: the polynomial with these coefficients, at the points.
template <int alpha, int results>
FASTCONV_INLINE void spread_line(const Floats (&in)[results], Floats (&out)[alpha]) {
  out[0] = in[0];
  if constexpr (alpha > 1) {
    constexpr int pairs = alpha / 2 - 1;
    out[alpha - 1] = in[results - 1];
#pragma GCC unroll 4
    for (int q = 0; q < pairs; ++q) {
      Floats even = in[0], odd = in[1] * power(kWinogradPoints[pairs - 1][q], 1);
#pragma GCC unroll 8
      for (int i = 2; i < results; ++i) (i % 2 ? odd : even) += in[i] * power(kWinogradPoints[pairs - 1][q], i);
      out[1 + 2 * q] = even + odd;
      out[2 + 2 * q] = even - odd;
    }
  }
}

template <int form_h, int form_w>
void spread_tiles(const WinogradInput& w) {
  constexpr int alpha_h = kWinogradForms[form_h].alpha, alpha_w = kWinogradForms[form_w].alpha;
  constexpr int rows = kWinogradForms[form_h].results, cols = kWinogradForms[form_w].results;
  const float* src = w.src;
  float* dst = w.dst;
  for (int64_t t = 0; t < w.tiles; ++t, src += w.src_tile, dst += w.dst_tile) {
    Floats block[alpha_h][cols];
#pragma GCC unroll 1
    for (int j = 0; j < cols; ++j) {
      Floats in[rows], out[alpha_h];
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) in[i] = load(src + i * w.row + j * w.col);
      spread_line<alpha_h, rows>(in, out);
#pragma GCC unroll 8
      for (int i = 0; i < alpha_h; ++i) block[i][j] = out[i];
    }
    float* to = dst;
#pragma GCC unroll 1
    for (int i = 0; i < alpha_h; ++i) {
      Floats out[alpha_w];
      spread_line<alpha_w, cols>(block[i], out);
#pragma GCC unroll 8
      for (int j = 0; j < alpha_w; ++j, to += w.position) store(to, out[j]);
    }
  }
}

template <int form_h, int form_w>
void taps_tiles(const WinogradOutput& w) {
  constexpr int alpha_h = kWinogradForms[form_h].alpha, alpha_w = kWinogradForms[form_w].alpha;
  constexpr int rows = alpha_h - kWinogradForms[form_h].results + 1;
  constexpr int cols = alpha_w - kWinogradForms[form_w].results + 1;
  const float* src = w.src;
  float* dst = w.dst;
  for (int64_t t = 0; t < w.tiles; ++t, src += w.src_tile, dst += w.dst_tile) {
    Floats block[rows][alpha_w];
#pragma GCC unroll 1
    for (int j = 0; j < alpha_w; ++j) {
      Floats in[alpha_h], out[rows];
#pragma GCC unroll 8
      for (int i = 0; i < alpha_h; ++i) in[i] = load(src + (i * alpha_w + j) * w.position);
      taps_line<alpha_h, rows>(in, out);
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) block[i][j] = out[i];
    }
#pragma GCC unroll 1
    for (int i = 0; i < rows; ++i) {
      Floats out[cols];
      taps_line<alpha_w, cols>(block[i], out);
#pragma GCC unroll 8
      for (int j = 0; j < cols; ++j) store(dst + i * w.row + j * w.col, out[j]);
    }
  }
}

template <int alpha_h, int alpha_w>
void input_tiles(const WinogradInput& w) {
  const float* src = w.src;
  float* dst = w.dst;
  for (int64_t t = 0; t < w.tiles; ++t, src += w.src_tile, dst += w.dst_tile) {
    Floats block[alpha_h][alpha_w];
#pragma GCC unroll 1
    for (int j = 0; j < alpha_w; ++j) {
      Floats in[alpha_h], out[alpha_h];
#pragma GCC unroll 8
      for (int i = 0; i < alpha_h; ++i) in[i] = load(src + i * w.row + j * w.col);
      input_line<alpha_h>(in, out);
#pragma GCC unroll 8
      for (int i = 0; i < alpha_h; ++i) block[i][j] = out[i];
    }
    float* to = dst;
#pragma GCC unroll 1
    for (int i = 0; i < alpha_h; ++i) {
      Floats out[alpha_w];
      input_line<alpha_w>(block[i], out);
#pragma GCC unroll 8
      for (int j = 0; j < alpha_w; ++j, to += w.position) store(to, out[j]);
    }
  }
}

template <int form_h, int form_w>
void output_tiles(const WinogradOutput& w) {
  constexpr int alpha_h = kWinogradForms[form_h].alpha, alpha_w = kWinogradForms[form_w].alpha;
  constexpr int rows = kWinogradForms[form_h].results, cols = kWinogradForms[form_w].results;
  const float* src = w.src;
  float* dst = w.dst;
  for (int64_t t = 0; t < w.tiles; ++t, src += w.src_tile, dst += w.dst_tile) {
    const Floats bias = w.bias ? load(w.bias + t * w.bias_tile) : Floats{};
    Floats block[rows][alpha_w];
#pragma GCC unroll 1
    for (int j = 0; j < alpha_w; ++j) {
      Floats in[alpha_h], out[rows];
#pragma GCC unroll 8
      for (int i = 0; i < alpha_h; ++i) in[i] = load(src + (i * alpha_w + j) * w.position);
      output_line<alpha_h, rows>(in, out);
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) block[i][j] = out[i];
    }
#pragma GCC unroll 1
    for (int i = 0; i < rows; ++i) {  // downwards, and columns to the right: the loop nest relies on it
      Floats out[cols];
      output_line<alpha_w, cols>(block[i], out);
#pragma GCC unroll 8
      for (int j = 0; j < cols; ++j) {
        Floats value = out[j] + bias;
        if (w.add) value += load(w.add + (dst - w.dst) + i * w.row + j * w.col);
        if (w.activate) value = clamp<float>(value, w.low, w.high);
        store(dst + i * w.row + j * w.col, value);
      }
    }
  }
}

void gather_planes(const WinogradPlanes& p) {
  constexpr int lanes = kLanes<float>;
  for (int64_t q = 0; q < p.count; q += lanes) {
    const int left = p.count - q < lanes ? (int)(p.count - q) : lanes;
    Floats block[lanes];
    if (left == lanes && p.channels == lanes) {
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) block[i] = load(p.src + i * p.plane + q);
    } else {
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) block[i] = i < p.channels ? load_some(p.src + i * p.plane + q, left) : Floats{};
    }
    transpose<float>(block);
    float* const dst = p.dst + q * p.pixel;
#pragma GCC unroll 16
    for (int k = 0; k < lanes; ++k) {
      if (k >= left) return;
      store(dst + k * p.pixel, block[k]);
    }
  }
}

void scatter_planes(const WinogradPlanes& p) {
  constexpr int lanes = kLanes<float>;
  for (int64_t q = 0; q < p.count; q += lanes) {
    const int left = p.count - q < lanes ? (int)(p.count - q) : lanes;
    Floats block[lanes];
#pragma GCC unroll 16
    for (int k = 0; k < lanes; ++k) block[k] = k < left ? load(p.src + (q + k) * p.pixel) : Floats{};
    transpose<float>(block);
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) {
      if (i >= p.channels) break;
      float* const dst = p.dst + i * p.plane + q;
      if (left == lanes)
        store(dst, block[i]);
      else
        store_some(dst, block[i], left);
    }
  }
}

template <int h, int w>
constexpr void fill_form(WinogradKernels& kernels) {
  constexpr int alpha_h = kWinogradForms[h].alpha, alpha_w = kWinogradForms[w].alpha;
  if constexpr (winograd_pair(h, w)) {
    kernels.input[h][w] = input_tiles<alpha_h, alpha_w>;
    kernels.output[h][w] = output_tiles<h, w>;
    if constexpr (winograd_odd_taps(h) && winograd_odd_taps(w)) {
      kernels.spread[h][w] = spread_tiles<h, w>;
      kernels.taps[h][w] = taps_tiles<h, w>;
    }
  }
}

template <int h, int... w>
constexpr void fill_row(WinogradKernels& kernels, Indices<w...>) {
  (fill_form<h, w>(kernels), ...);
}

template <int... h>
constexpr WinogradKernels make_winograd(Indices<h...> forms) {
  WinogradKernels kernels{kLanes<float>, {}, {}, {}, {}, transform_filters, gather_planes, scatter_planes};
  (fill_row<h>(kernels, forms), ...);
  return kernels;
}

constexpr WinogradKernels make_winograd() { return make_winograd(MakeIndices<kWinogradFormCount>::type{}); }

}  // namespace
