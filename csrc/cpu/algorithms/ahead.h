// What the next block reads is asked for while this one is computed: it arrives in L2 meanwhile.
//
// A block reads a run of pixels from every channel of its source; the runs lie a plane apart, each on a page of its
// own, where the hardware foresees nothing. Spread over the tiles of a block, so that requests never queue up.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../blocking.h"

namespace fastconv {

class Ahead {
 public:
  Ahead() = default;
  // `channels` runs of `run` bytes, `channel` bytes apart, to be asked for in `calls` calls of some().
  Ahead(const void* first, int64_t run, int64_t channel, int64_t channels, int64_t calls)
      : at_(static_cast<const char*>(first)),
        channel_(channel),
        lines_(run / kLine + 1),
        left_(channels),
        each_(ceil_div(lines_ * channels, calls)) {}

  void some() {
    for (int64_t n = each_; n > 0 && left_ > 0; --n) {
      __builtin_prefetch(at_ + line_ * kLine, 0, 2);
      if (++line_ < lines_) continue;
      line_ = 0;
      at_ += channel_;
      --left_;
    }
  }

 private:
  static constexpr int64_t kLine = 64;
  const char* at_ = nullptr;
  int64_t channel_ = 0, lines_ = 0, left_ = 0, each_ = 0, line_ = 0;
};

// The rows that a block reads of so many channels. Planar only, and of one depth.
template <class T>
Ahead ahead_of_block(const Gather& g, const PixelBlock& block, const Source<T>& source, int64_t channels,
                     int64_t calls) {
  const Walk &d = g.d(), &h = g.h();
  const auto inside = [](const Walk& walk, int64_t at) { return std::clamp<int64_t>(at, 0, walk.src - 1); };
  const int64_t slice = inside(d, block.d * d.src_step + d.least_offset());
  const int64_t low = inside(h, block.h0 * h.src_step + h.least_offset());
  const int64_t high = inside(h, (block.h1 - 1) * h.src_step + h.most_offset());
  constexpr int64_t bytes = sizeof(T);
  return {source.data + slice * source.d + low * source.h, (high - low + 1) * source.h * bytes, source.channel * bytes,
          channels, calls};
}

}  // namespace fastconv
