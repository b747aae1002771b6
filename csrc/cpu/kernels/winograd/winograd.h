// The transforms of Winograd's minimal filtering, and the data movement around them.
//
//   F(m, r):  m results of a filter of r taps from alpha = m + r - 1 products, at alpha points of a polynomial:
//     y = A [ (G g) * (B d) ]        d: alpha inputs, g: r taps, * element by element
//   Points 0, +a, -a, +b, -b, .., infinity, in this order; with M(x) the product of (x - p) over the finite ones,
//     row p of B: the coefficients of M(x) / (x - p);  last row: those of M(x)
//     row p of G: p^k / product of (p - q) over q != p; last row: 0 .. 0 1
//     A[i][p] = p^i;                                    A[m-1][infinity] = 1
//   In two dimensions once along each; an axis with one tap has the identity (alpha = 1).
//
// Channels lie along the vector everywhere, so that edges of an image, its size and its layout do not matter here:
//
//   gather   planes -> pixels:  dst[q * pixel + i] = src[i * plane + q]   i < channels; 0 for channels <= i < lanes,
//            where the next pixel does not begin
//   input    pixels -> positions, per tile: dst[position * p + tile * t + lane],  position = ph * alpha_w + pw
//   output   positions -> pixels, bias and activation included
//   scatter  pixels -> planes:  dst[i * plane + q] = src[q * pixel + i]   i < channels
//   spread   pixels -> positions, per tile: A^T, the way back through `output`; with `input` and `taps` it makes the
//            weight gradient
//   taps     positions -> taps: G^T, the way back through `filter`; places them as `output` does, without bias
//   filter   taps -> positions, in double: dst[position * p + c * width + lane]
// gather reads, and scatter writes, not an element more than named; the others move whole vectors.
// After: S. Winograd, Arithmetic Complexity of Computations (1980); A. Lavin, S. Gray, arXiv 1509.09308 (2015).
#pragma once

#include <stdint.h>

namespace fastconv {

// One axis: alpha inputs, m results. The index of a row is what the tables below are indexed by.
struct WinogradForm {
  int alpha, results;
};
constexpr WinogradForm kWinogradForms[] = {{1, 1}, {4, 2}, {6, 4}, {6, 2}, {8, 6}, {8, 4},
                                           {8, 2}, {4, 3}, {6, 5}, {6, 3}, {8, 7}, {8, 5}};
constexpr int kWinogradFormCount = 12;
constexpr int kMaxAlpha = 8;

constexpr bool winograd_odd_taps(int form) {
  return (kWinogradForms[form].alpha - kWinogradForms[form].results) % 2 == 0;
}
// The pairs of forms that there are. An even number of taps goes with the same or with one.
constexpr bool winograd_pair(int h, int w) {
  if (h == 0 || w == 0 || h == w) return true;
  return kWinogradForms[h].alpha == kWinogradForms[w].alpha && winograd_odd_taps(h) && winograd_odd_taps(w);
}

// The positive finite points for alpha = 4, 6, 8. Of the symmetric sets tried on normal numbers these lose fewest
// bits: for alpha = 6 the pair 1, 2 of Lavin and Gray loses twice as many.
constexpr double kWinogradPoints[3][3] = {{1}, {0.70710678118654752440, 1.41421356237309504880}, {0.5, 1, 2}};

struct WinogradInput {
  const float* src;
  int64_t row, col, src_tile;  // elements between rows, columns and tiles
  float* dst;
  int64_t position, dst_tile;
  int64_t tiles;
};

struct WinogradOutput {
  const float* src;
  int64_t position, src_tile;
  float* dst;
  int64_t row, col, dst_tile;
  int64_t tiles;
  const float* bias;  // a vector of them, or null; those of the next tile are bias_tile further
  int64_t bias_tile;
  const float* add;  // as many elements placed as those of dst are, or null
  bool activate;     // clamp to [low, high], keeping NaN
  float low, high;
};

struct WinogradFilter {
  int form_h, form_w;
  const float* src;  // [channel][tap][width], channels `channel` apart
  int64_t channel;
  int64_t channels, width;  // width: one or two vectors
  bool flip;                // taps backwards, along both axes
  float* dst;               // [position][channel][width], positions `position` apart
  int64_t position;
};

struct WinogradPlanes {
  const float* src;
  float* dst;
  int64_t plane, channels, count;
  int64_t pixel;  // elements between pixels: channels at least, lanes at most
};

struct WinogradKernels {
  int lanes;
  // By form; null where winograd_pair is false, `spread` and `taps` also where a number of taps is even.
  void (*input[kWinogradFormCount][kWinogradFormCount])(const WinogradInput&);
  void (*output[kWinogradFormCount][kWinogradFormCount])(const WinogradOutput&);
  void (*spread[kWinogradFormCount][kWinogradFormCount])(const WinogradInput&);
  void (*taps[kWinogradFormCount][kWinogradFormCount])(const WinogradOutput&);
  void (*filter)(const WinogradFilter&);
  void (*gather)(const WinogradPlanes&);
  void (*scatter)(const WinogradPlanes&);
};

extern const WinogradKernels winograd_baseline, winograd_avx2, winograd_avx512, winograd_neon;

}  // namespace fastconv
