#include "spread.h"

#include <algorithm>

#include "blocking.h"

namespace fastconv {

namespace {

// A list costs what moving four to five channels costs; and its bytes.
constexpr int64_t kLeastChannels = 8, kMostTaps = 128;
// Each tap of a row divides the stride anew: 7 taps lost, at a stride of 4, what 3 and 4 gain. Zen 3.
constexpr int64_t kMostStrided = 4;

}  // namespace

bool spreads(const Gather& g, Layout layout, int64_t channels) {
  const Walk& w = g.w();
  if (layout != Layout::nchw || lies_ready(g, layout) || channels < kLeastChannels || g.taps() > kMostTaps)
    return false;
  return w.src_step == 1 || ((w.src_step == 2 || w.src_step == 4) && w.taps <= kMostStrided);
}

int64_t most_moves(const Gather& g, int64_t width, int64_t lanes, int64_t block_cols) {
  const int64_t runs = std::min(width, (width + block_cols - 2) / block_cols + 1);
  return g.taps() * (2 * ceil_div(width, lanes) + runs);
}

namespace {

// The moves of one row of a panel.
struct Row {
  const Walk& w;
  int64_t lanes, low, high, to;
  SpreadMove* moves;

  void zeros(int64_t lane) { *moves++ = {0, static_cast<int32_t>(to + lane), SpreadKind::zeros, 0, 0}; }

  // `count` results from `lane` on, of which the first reads column x of the source row at `at`.
  void run(int64_t lane, int64_t count, int64_t at, int64_t x) {
    const int64_t step = w.src_step;
    for (int64_t q = 0; q < count; q += lanes, x += lanes * step) {
      const int64_t asked = std::min(lanes, count - q), begin = x >= 0 ? 0 : ceil_div(-x, step);
      const int64_t end = x >= w.src ? 0 : std::min(asked, (w.src - x - 1) / step + 1);
      if (begin >= end) {
        zeros(lane + q);
        continue;
      }
      const bool readable = at + x >= low && at + x + lanes * step <= high;
      const SpreadKind kind = !readable                    ? SpreadKind::careful
                              : begin == 0 && end == asked ? SpreadKind::whole
                                                           : SpreadKind::part;
      *moves++ = {at + x, static_cast<int32_t>(to + lane + q), kind, static_cast<int32_t>(begin),
                  static_cast<int32_t>(end)};
    }
  }
};

}  // namespace

int64_t list_moves(const Gather& g, const PixelBlock& block, const PanelPixels& px, int64_t lanes, int64_t low,
                   int64_t high, SpreadMove* moves) {
  const Walk &d = g.d(), &h = g.h(), &w = g.w();
  const int64_t cols = block.cols(), row0 = block.h0 + px.first / cols, col0 = px.first % cols;
  const auto inside = [](const Walk& walk, int64_t at) { return at >= 0 && at < walk.src; };
  Row row{w, lanes, low, high, 0, moves};
  for (int64_t td = 0; td < d.taps; ++td) {
    const int64_t z = d.position(block.d, td);
    for (int64_t th = 0; th < h.taps; ++th)
      for (int64_t tw = 0; tw < w.taps; ++tw, row.to += px.width) {
        int64_t lane = 0, col = col0;
        for (int64_t jh = row0; lane < px.count; ++jh, col = 0) {
          const int64_t count = std::min(cols - col, px.count - lane), y = h.position(jh, th);
          if (inside(d, z) && inside(h, y))
            row.run(lane, count, (z * h.src + y) * w.src, w.position(block.w0 + col, tw));
          else
            for (int64_t q = 0; q < count; q += lanes) row.zeros(lane + q);
          lane += count;
        }
        for (; lane < px.width; lane += lanes) row.zeros(lane);
      }
  }
  return row.moves - moves;
}

}  // namespace fastconv
