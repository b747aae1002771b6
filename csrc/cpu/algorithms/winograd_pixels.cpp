#include "winograd_pixels.h"

#include <algorithm>
#include <cstring>

namespace fastconv {

WinogradPixels::WinogradPixels(const ConvPlan& plan, const ConvOperands& operands)
    : p_(plan.problem),
      g_(plan.gathers[0]),
      b_(plan.blocking.winograd),
      h_(kWinogradForms[b_.form_h]),
      w_(kWinogradForms[b_.form_w]),
      kernels_(kernels_for(plan.machine.isa)),
      lanes_(kernels_.winograd.lanes),
      curve_(curve_of<float>(plan)),
      residual_(static_cast<const float*>(operands.residual)) {
  const bool forward = p_.direction == Direction::forward;
  src_ = static_cast<const float*>(forward ? operands.x : operands.y);
  dst_ = static_cast<float*>(forward ? operands.y : operands.x);
  src_end_ = src_ + p_.batch * g_.d().src * g_.h().src * g_.w().src * g_.src_c * p_.groups;
}

int64_t WinogradPixels::copied_input(const ConvPlan& plan) {
  const int64_t lanes = plan.machine.lanes(sizeof(float));
  return plan.blocking.winograd.positions * ceil_div(plan.gathers[0].src_c, lanes) * lanes;
}

int64_t WinogradPixels::copied_results(const ConvPlan& plan) {
  const WinogradBlocking& b = plan.blocking.winograd;
  const int64_t results = kWinogradForms[b.form_h].results * kWinogradForms[b.form_w].results;
  return 2 * results * b.sum_step;  // and what is added to them
}

void WinogradPixels::read(const Image& image, int64_t y, int64_t x, float* copy, float* tile) const {
  copy_pixels(image, y, x, copy);
  const int64_t vectors = ceil_div(g_.src_c, lanes_), pixel = vectors * lanes_;
  kernels_.winograd.input[b_.form_h][b_.form_w](
      {copy, w_.alpha * pixel, pixel, lanes_, tile, b_.position_step, lanes_, vectors});
}

// The pixels that a tile reads, zeros around the image.
void WinogradPixels::copy_pixels(const Image& image, int64_t y, int64_t x, float* copy) const {
  const int64_t pixel = ceil_div(g_.src_c, lanes_) * lanes_, step = b_.step_w();
  const int64_t begin = std::clamp<int64_t>(ceil_div(-x, step), 0, w_.alpha);
  const int64_t end = std::clamp(ceil_div(g_.w().src - x, step), begin, int64_t{w_.alpha});
  const auto zero = [pixel](float* at, int64_t pixels) {
    std::memset(at, 0, static_cast<size_t>(pixels * pixel) * sizeof(float));
  };
  const int64_t no_offset = 0;
  const PixelRun channels{0, 0, g_.src_c};
  for (int64_t i = 0; i < h_.alpha; ++i, y += b_.step_h(), copy += w_.alpha * pixel) {
    if (!image.inside || y < 0 || y >= g_.h().src || begin == end) {
      zero(copy, w_.alpha);
      continue;
    }
    const float* const from = src_ + image.first + y * image.row + (x + begin * step) * image.col;
    zero(copy, begin);
    const int64_t count = end - begin;
    if (image.col * step == pixel && g_.src_c == pixel)  // pixels follow each other
      std::memcpy(copy + begin * pixel, from, static_cast<size_t>(count * pixel) * sizeof(float));
    else if (from + (count - 1) * image.col * step + pixel <= src_end_)  // what is behind the channels is never used
      kernels_.pack.f32.pixels(
          {copy + begin * pixel, pixel, 0, from, count, image.col * step, &no_offset, 1, &channels, 1, false});
    else
      kernels_.pack.f32.pad_rows({copy + begin * pixel, pixel, pixel, 0, g_.src_c, from, image.col * step, 1, count});
    zero(copy + end * pixel, w_.alpha - end);
  }
}

void WinogradPixels::write(const Image& image, int64_t y, int64_t x, int64_t channel, int64_t count, const float* bias,
                           const float* sums, float* copy) const {
  const int64_t rows = std::min<int64_t>(h_.results, ceil_div(g_.h().dst - y, b_.dilation_h));
  const int64_t cols = std::min<int64_t>(w_.results, ceil_div(g_.w().dst - x, b_.dilation_w));
  if (rows <= 0 || cols <= 0) return;  // the last tiles of a phase with fewer results
  const int64_t row = image.row * b_.dilation_h, col = image.col * b_.dilation_w;
  const int64_t first = image.first + y * image.row + x * image.col;
  const bool whole = rows == h_.results && cols == w_.results;
  const int64_t direct = whole ? count / lanes_ * lanes_ : 0;  // channels
  WinogradOutput o{};
  set_clamp(o, p_.activation, true);
  o.position = b_.sum_position, o.src_tile = o.dst_tile = lanes_;
  const auto transform = [&](int64_t from, int64_t vectors) {
    o.src = sums + from, o.tiles = vectors;
    o.bias = bias ? bias + from : nullptr, o.bias_tile = lanes_;
    kernels_.winograd.output[b_.form_h][b_.form_w](o);
  };
  float* const dst = dst_ + first + channel;
  const float* const residual = residual_ ? residual_ + first + channel : nullptr;
  if (direct > 0) {
    o.dst = dst, o.row = row, o.col = col, o.add = residual;
    transform(0, direct / lanes_);
    for (int64_t i = 0; curve_ && i < rows; ++i) curve_({dst + i * row, col, 1, cols, direct});
  }
  if (direct == count) return;
  const int64_t left = count - direct, pixel = ceil_div(left, lanes_) * lanes_;
  const PackKernel<float>& pack = kernels_.pack.f32;
  o.dst = copy, o.col = pixel, o.row = w_.results * pixel, o.add = nullptr;
  if (residual) {
    float* const add = copy + h_.results * w_.results * b_.sum_step;
    for (int64_t i = 0; i < rows; ++i)
      pack.pad_rows({add + i * o.row, pixel, pixel, 0, left, residual + direct + i * row, col, 1, cols});
    o.add = add;
  }
  transform(direct, pixel / lanes_);
  if (curve_) curve_({copy, 0, 1, 1, h_.results * o.row});
  for (int64_t i = 0; i < rows; ++i)
    pack.pad_rows({dst + direct + i * row, col, left, 0, left, copy + i * o.row, pixel, 1, cols});
}

}  // namespace fastconv
