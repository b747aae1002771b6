#include "stage.h"

#include "blocking.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace fastconv {
namespace {

// Stored rows are gcd(stride, dilation) source rows apart; with one tap, a stride apart.
int64_t row_unit_of(const Walk& h) { return h.taps == 1 ? h.src_step : std::gcd(h.src_step, h.offset_step); }

bool inside(const Walk& walk) {
  return walk.least_offset() >= 0 && (walk.dst - 1) * walk.src_step + walk.most_offset() < walk.src;
}

void set_in_place(Stage& s, const Gather& g) {
  const Walk &d = g.d(), &h = g.h(), &w = g.w();
  s.in_place = true;
  s.plane = d.src * h.src * w.src;
  s.row = w.src;
  s.row_step = h.src_step;
  s.slice = h.src * w.src;
  for (int64_t td = 0; td < d.taps; ++td)
    for (int64_t th = 0; th < h.taps; ++th)
      for (int64_t tw = 0; tw < w.taps; ++tw)
        s.tap_offset.push_back(((d.offset + td * d.offset_step) * h.src + h.offset + th * h.offset_step) * w.src +
                               w.offset + tw * w.offset_step);
}

}  // namespace

bool lies_ready(const Gather& g, Layout layout) {
  return layout == Layout::nchw && g.w().src_step == 1 && inside(g.d()) && inside(g.h()) && inside(g.w());
}

bool read_once(const Walk& w) {
  return (w.src_step == 2 || w.src_step == 4) && w.taps >= w.src_step && w.offset_step > 0 &&
         w.offset_step % w.src_step == 1;
}

Stage make_stage(const Gather& g, Layout layout, int64_t block_rows, int64_t block_cols, bool may_be_in_place,
                 int64_t by_rows) {
  const Walk &d = g.d(), &h = g.h(), &w = g.w();
  Stage s;
  if (may_be_in_place && lies_ready(g, layout)) {
    set_in_place(s, g);
    return s;
  }
  s.row_unit = row_unit_of(h);
  s.row_step = h.src_step / s.row_unit;
  const auto column = [&w](int64_t t) { return w.offset + t * w.offset_step - w.least_offset(); };
  for (int64_t t = 0; t < w.taps; ++t) {
    const int64_t phase = column(t) % w.src_step;
    if (std::find(s.phases.begin(), s.phases.end(), phase) == s.phases.end()) s.phases.push_back(phase);
  }
  // Undivided only where all phases are read: else half of what is copied, or more, is not.
  if (by_rows && static_cast<int64_t>(s.phases.size()) == w.src_step) s.phases = {0}, s.pixel_step = w.src_step;
  const int64_t step = w.src_step / s.pixel_step;
  s.phase_width = (block_cols - 1) * s.pixel_step + (w.most_offset() - w.least_offset()) / step + 1;
  s.row = s.phase_width * static_cast<int64_t>(s.phases.size());
  const auto stored_row = [&](int64_t t) { return (h.offset + t * h.offset_step - h.least_offset()) / s.row_unit; };
  s.rows = (block_rows - 1) * s.row_step + (h.most_offset() - h.least_offset()) / s.row_unit + 1;
  if (by_rows) {
    // Whole 16 bytes, which tiles read faster; rows of a power of two would meet in few sets of L1.
    s.plane = (s.row + 3) / 4 * 4;
    if (s.plane % 16 == 0) s.plane += 4;
    s.row = s.plane * by_rows;
  }
  s.slice = s.rows * s.row;
  if (by_rows)
    s.by_rows = d.taps * s.slice;
  else
    s.plane = d.taps * s.slice;
  for (int64_t td = 0; td < d.taps; ++td)
    for (int64_t th = 0; th < h.taps; ++th)
      for (int64_t tw = 0; tw < w.taps; ++tw) {
        const auto slot = std::find(s.phases.begin(), s.phases.end(), column(tw) % step) - s.phases.begin();
        s.tap_offset.push_back(td * s.slice + stored_row(th) * s.row + slot * s.phase_width + column(tw) / step);
      }
  return s;
}

int64_t Stage::row_offset(const Gather& g, const PixelBlock& block, int64_t jh) const {
  if (in_place)
    return (block.d * g.d().src_step * g.h().src + jh * g.h().src_step) * g.w().src + block.w0 * g.w().src_step;
  return (jh - block.h0) * row_step * row;
}

namespace {

// Elements q of a phase that lie inside the source row: [begin, end) of [0, width).
struct Span {
  int64_t begin, end, first;  // first: source column of element `begin`
};

Span inside_span(const Walk& w, const PixelBlock& block, int64_t phase, int64_t step, int64_t width) {
  const int64_t origin = block.w0 * w.src_step + w.least_offset() + phase;
  Span span;
  span.begin = origin >= 0 ? 0 : (-origin + step - 1) / step;
  span.end = origin >= w.src ? 0 : (w.src - origin + step - 1) / step;
  span.begin = std::min(span.begin, width);
  span.end = std::max(span.begin, std::min(span.end, width));
  span.first = origin + span.begin * step;
  return span;
}

// Stored rows [begin, end) lie inside the source, row `begin` at source row `first`; the others are zeros.
struct RowSpan {
  int64_t begin, end, first;
};

RowSpan inside_rows(const Walk& h, const PixelBlock& block, int64_t unit, int64_t rows) {
  const int64_t origin = block.h0 * h.src_step + h.least_offset();
  RowSpan span;
  span.begin = std::min(rows, origin >= 0 ? 0 : ceil_div(-origin, unit));
  span.end = std::max(span.begin, std::min(rows, origin >= h.src ? 0 : ceil_div(h.src - origin, unit)));
  span.first = origin + span.begin * unit;
  return span;
}

template <class T>
void zero(T* first, int64_t count) {
  std::memset(first, 0, static_cast<size_t>(count) * sizeof(T));
}

// All phases of the rows of a slice, NCHW: channel by channel, each row read once.
template <class T>
void fill_divided(const Stage& stage, const Walk& w, const Source<T>& source, const T* slice, const RowSpan& rows,
                  int64_t all_rows, int64_t first, int64_t channels, const PackKernel<T>& pack, T* out) {
  const RowSpan read = slice ? rows : RowSpan{all_rows, all_rows, 0};
  for (int64_t c = 0; c < channels; ++c) {
    T* const plane = out + c * stage.plane;
    zero(plane, read.begin * stage.row);
    zero(plane + read.end * stage.row, (all_rows - read.end) * stage.row);
    if (read.begin < read.end)
      pack.divide({plane + read.begin * stage.row, stage.row, stage.phase_width,
                   slice + c * source.channel + read.first * source.h, stage.row_unit * source.h, w.src, first,
                   w.src_step, read.end - read.begin});
  }
}

// One phase of the rows of a slice. NCHW: channel by channel, rows with their padding in one go.
template <class T>
void fill_planar(const Stage& stage, const Walk& w, const Source<T>& source, const T* slice, const RowSpan& rows,
                 int64_t all_rows, const Span& span, int64_t channels, const PackKernel<T>& pack, T* out) {
  const bool empty = !slice || span.begin == span.end;
  for (int64_t c = 0; c < channels; ++c) {
    T* const plane = out + c * stage.plane;
    for (int64_t r = 0; r < all_rows; ++r)
      if (empty || r < rows.begin || r >= rows.end) zero(plane + r * stage.row, stage.phase_width);
    if (empty || rows.begin == rows.end) continue;
    pack.pad_rows({plane + rows.begin * stage.row, stage.row, stage.phase_width, span.begin, span.end,
                   slice + c * source.channel + rows.first * source.h + span.first, stage.row_unit * source.h,
                   w.src_step / stage.pixel_step, rows.end - rows.begin});
  }
}

// The same with the channels last: the columns of all channels become rows.
template <class T>
void fill_channels_last(const Stage& stage, const Walk& w, const Source<T>& source, const T* slice, const RowSpan& rows,
                        int64_t all_rows, const Span& span, int64_t channels, const PackKernel<T>& pack, T* out) {
  for (int64_t r = 0; r < all_rows; ++r) {
    const bool empty = !slice || span.begin == span.end || r < rows.begin || r >= rows.end;
    T* const row = out + r * stage.row;
    for (int64_t c = 0; c < channels; ++c) {
      zero(row + c * stage.plane, empty ? stage.phase_width : span.begin);
      if (!empty) zero(row + c * stage.plane + span.end, stage.phase_width - span.end);
    }
    if (empty) continue;
    const T* const first = slice + (rows.first + (r - rows.begin) * stage.row_unit) * source.h + span.first * source.w;
    const int64_t count = span.end - span.begin;
    const int64_t step = w.src_step / stage.pixel_step;
    pack.transpose({row + span.begin, stage.plane, count, first, source.w * step, count, channels});
  }
}

}  // namespace

template <class T>
void fill_stage(const Stage& stage, const Gather& g, const Source<T>& source, const PixelBlock& block, int64_t channels,
                const PackKernel<T>& pack, T* out) {
  const Walk &d = g.d(), &h = g.h(), &w = g.w();
  const int64_t all_rows =
      (block.h1 - block.h0 - 1) * stage.row_step + (h.most_offset() - h.least_offset()) / stage.row_unit + 1;
  const RowSpan rows = inside_rows(h, block, stage.row_unit, all_rows);
  for (int64_t td = 0; td < d.taps; ++td) {
    const int64_t z = d.position(block.d, td);
    const T* const slice = z < 0 || z >= d.src ? nullptr : source.data + z * source.d;
    if (source.w == 1 && !stage.by_rows && read_once(w)) {
      fill_divided(stage, w, source, slice, rows, all_rows, block.w0 * w.src_step + w.least_offset(), channels, pack,
                   out + td * stage.slice);
      continue;
    }
    for (size_t slot = 0; slot < stage.phases.size(); ++slot) {
      const Span span = inside_span(w, block, stage.phases[slot], w.src_step / stage.pixel_step, stage.phase_width);
      T* const to = out + td * stage.slice + static_cast<int64_t>(slot) * stage.phase_width;
      if (source.w == 1)
        fill_planar(stage, w, source, slice, rows, all_rows, span, channels, pack, to);
      else
        fill_channels_last(stage, w, source, slice, rows, all_rows, span, channels, pack, to);
    }
  }
}

template void fill_stage(const Stage&, const Gather&, const Source<float>&, const PixelBlock&, int64_t,
                         const PackKernel<float>&, float*);
template void fill_stage(const Stage&, const Gather&, const Source<double>&, const PixelBlock&, int64_t,
                         const PackKernel<double>&, double*);

}  // namespace fastconv
