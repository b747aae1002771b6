#include <algorithm>
#include <cstring>

#include "../buffer.h"
#include "winograd_pixels.h"
#include "winograd_products.h"

namespace fastconv {
namespace {

// What one thread works in; the same carving measures and lays out.
struct Scratch {
  float *stage, *tiles, *sums, *results, *residual, *weights;

  Scratch(Carver& carver, const ConvPlan& plan) {
    const WinogradBlocking& b = plan.blocking.winograd;
    const WinogradForm &h = kWinogradForms[b.form_h], &w = kWinogradForms[b.form_w];
    const int64_t lanes = plan.machine.lanes(sizeof(float));
    const int64_t cols = ceil_div(b.cols.count, b.cols.parts), phases = ceil_div(b.phases.count, b.phases.parts);
    const int64_t rows = std::min(b.tiles_h, ceil_div(b.rows.count, b.rows.parts));
    const bool last = plan.problem.layout == Layout::nhwc;
    stage = carver.take<float>(last ? WinogradPixels::copied_input(plan)
                                    : (rows * h.results + h.alpha) * (cols * w.results + w.alpha) * phases *
                                          b.stride_w * lanes);
    tiles = carver.take<float>(b.positions * b.position_step);
    sums = carver.take<float>(b.positions * b.sum_position);
    // One row of tiles; a tile that hangs over the edge writes over the rows below it.
    const int64_t planar = last ? 0 : (h.results * cols * phases + 1) * w.results * lanes;
    results = carver.take<float>(last ? WinogradPixels::copied_results(plan) : planar);
    residual = carver.take<float>(planar);
    // Weights that a call without prepared ones transforms where they are read: of one pass over the channels.
    const int64_t depth = ceil_div(b.depths.count, b.depths.parts);
    weights = carver.take<float>(plan.packs_in_run ? b.positions * winograd_pitch(depth * 2 * lanes) : 0);
  }
};

// Rows [first, first + rows) of the tiles of one phase of one image, the block's columns; `tile`: the block's number of
// the first.
struct TileRows {
  int64_t image, phase, first, rows, tile;
};

class WinogradRun {
 public:
  WinogradRun(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace)
      : plan_(plan),
        p_(plan.problem),
        g_(plan.gathers[0]),
        b_(plan.blocking.winograd),
        h_(kWinogradForms[b_.form_h]),
        w_(kWinogradForms[b_.form_w]),
        kernels_(kernels_for(plan.machine.isa)),
        lanes_(kernels_.winograd.lanes),
        pixel_(b_.phases_w > 1 ? std::min(lanes_, g_.src_c) : lanes_),
        curve_(curve_of<float>(plan)),
        pixels_(plan, operands),
        products_(plan, operands) {
    const bool forward = p_.direction == Direction::forward;
    src_ = static_cast<const float*>(forward ? operands.x : operands.y);
    dst_ = static_cast<float*>(forward ? operands.y : operands.x);
    residual_ = static_cast<const float*>(operands.residual);
    Carver carver(workspace);
    const int64_t count = p_.bias_length();
    float* const bias = carver.take<float>(count + 2 * kPackSlack);  // padded: whole vectors of it are loaded
    if (operands.bias) {
      std::memcpy(bias, operands.bias, static_cast<size_t>(count) * sizeof(float));
      std::memset(bias + count, 0, 2 * kPackSlack * sizeof(float));
      bias_ = bias;
    }
    for (int t = 0; t < plan.threads; ++t) {
      Carver thread(carver.take<std::byte>(static_cast<int64_t>(plan.blocking.thread_bytes)));
      scratch_.emplace_back(thread, plan);
    }
    last_block_.assign(static_cast<size_t>(plan.threads), -1);
  }

  void item(int64_t item, int thread, Interrupt& interrupt) {
    const int64_t split = item % b_.c_splits, block = item / b_.c_splits;
    int64_t rest = block;
    const int64_t phase_block = rest % b_.phases.parts, col_block = (rest /= b_.phases.parts) % b_.cols.parts;
    const int64_t row_block = (rest /= b_.cols.parts) % b_.rows.parts, group = rest / b_.rows.parts;
    Scratch& s = scratch_[static_cast<size_t>(thread)];
    const Columns columns{b_.cols.begin(col_block), b_.cols.size(col_block), b_.phases.begin(phase_block),
                          b_.phases.size(phase_block)};
    // Parts of the channels of one block come one after the other: the input transformed for the last is still there.
    if (last_block_[static_cast<size_t>(thread)] != block) {
      for_images(row_block, columns, [&](const TileRows& r) { read_tiles(group, r, columns, s); });
      last_block_[static_cast<size_t>(thread)] = block;
    }
    const int64_t tiles = b_.rows.size(row_block) * columns.tiles();
    const Split parts{b_.chunks(), b_.c_splits};
    for (int64_t chunk = parts.begin(split); chunk < parts.begin(split + 1); ++chunk) {
      const int64_t first = chunk * b_.chunk_panels, last = std::min(b_.panels, first + b_.chunk_panels);
      products_.multiply(group, first, last, tiles, s.tiles, s.sums, s.weights);
      if (interrupt.stop_here(thread)) return;
      const int64_t channel0 = winograd_panel(plan_, group, first).first;
      const int64_t channel1 = std::min(g_.dst_c, winograd_panel(plan_, group, last - 1).first + 2 * lanes_);
      for_images(row_block, columns, [&](const TileRows& r) { write_tiles(group, r, columns, channel0, channel1, s); });
    }
  }

 private:
  // Columns of tiles, and those of their phases that the block has; a row of tiles is phase after phase.
  struct Columns {
    int64_t first, count, phase, phases;
    int64_t tiles() const { return count * phases; }
  };

  bool nhwc() const { return p_.layout == Layout::nhwc; }

  // The tile rows of a block, image by image.
  template <class F>
  void for_images(int64_t row_block, const Columns& columns, const F& f) const {
    int64_t row = b_.rows.begin(row_block);
    const int64_t begin = row, end = b_.rows.begin(row_block + 1);
    while (row < end) {
      const int64_t first = row % b_.tiles_h, rows = std::min(end - row, b_.tiles_h - first);
      const int64_t image = row / b_.tiles_h;
      f(TileRows{image / b_.dilation_h, image % b_.dilation_h, first, rows, (row - begin) * columns.tiles()});
      row += rows;
    }
  }

  // Images are those of the batch, and each slice of a volume's result is one.
  struct Place {
    int64_t offset, plane, row, col;  // of the first channel of the group; steps
  };
  struct Volume {
    int64_t channels, depth, height, width;  // channels of a group
  };
  Place place(int64_t group, int64_t image, int64_t slice, const Volume& v) const {
    const int64_t all = v.channels * p_.groups, plane = v.height * v.width;
    if (nhwc()) return {(image * v.depth + slice) * plane * all + group * v.channels, 1, v.width * all, all};
    return {((image * all + group * v.channels) * v.depth + slice) * plane, v.depth * plane, v.width, 1};
  }

  // Calls f(at, col, count) for pixels that are neighbours in the image and in a staged row: `steps` pixels of each of
  // the block's phases, from the column of the first tile of phase 0 on.
  template <class F>
  void for_runs(const Columns& columns, int64_t col0, int64_t steps, const F& f) const {
    if (columns.phases == b_.dilation_w) return f(0, col0, steps * columns.phases);
    for (int64_t i = 0; i < steps; ++i) f(i * columns.phases, col0 + i * b_.dilation_w + columns.phase, columns.phases);
  }

  // Calls f(y, x, tile of the block), for each tile, with the row and column of its first result.
  template <class F>
  void for_tiles(const TileRows& r, const Columns& columns, const F& f) const {
    int64_t tile = r.tile;
    for (int64_t i = r.first; i < r.first + r.rows; ++i)
      for (int64_t phase = columns.phase; phase < columns.phase + columns.phases; ++phase)
        for (int64_t t = columns.first; t < columns.first + columns.count; ++t, ++tile)
          f(i * h_.results * b_.dilation_h + r.phase, t * w_.results * b_.dilation_w + phase, tile);
  }

  void read_tiles(int64_t group, const TileRows& r, const Columns& columns, Scratch& s) const {
    const int64_t image = r.image / g_.d().dst, slice = r.image % g_.d().dst;
    // What a vector of channels has beyond the last of them is overwritten by those of the next tap.
    for (int64_t tap = 0, term = 0; tap < g_.d().taps; ++tap)
      for (int64_t phase = 0; phase < b_.phases_h; ++phase, term += b_.phases_w * g_.src_c)
        read_slice(group, image, g_.d().position(slice, tap), phase, term, r, columns, s);
  }

  // The source channels of one slice, zeros where there is none, that a phase of the rows reads, to the terms from
  // `term` on.
  void read_slice(int64_t group, int64_t image, int64_t slice, int64_t phase, int64_t term, const TileRows& r,
                  const Columns& columns, Scratch& s) const {
    const int64_t steps = ((columns.count - 1) * w_.results + w_.alpha) * b_.stride_w, cols = steps * columns.phases;
    const int64_t rows = (r.rows - 1) * h_.results + h_.alpha, step = b_.step_h();
    const Place from = place(group, image, slice, {g_.src_c, g_.d().src, g_.h().src, g_.w().src});
    const bool inside = slice >= 0 && slice < g_.d().src;
    if (nhwc()) {
      for (int64_t i = 0; i < b_.phases_w; ++i, term += g_.src_c)
        for_tiles(r, columns, [&](int64_t y, int64_t x, int64_t tile) {
          pixels_.read({inside, from.offset, from.row, from.col}, y * b_.stride_h + phase + winograd_origin(g_.h()),
                       x * b_.stride_w + i + winograd_origin(g_.w()), s.stage, s.tiles + tile * b_.tile_step + term);
        });
      return;
    }
    const int64_t row0 = r.first * h_.results * step + r.phase + phase + winograd_origin(g_.h());
    const int64_t col0 = columns.first * w_.results * b_.step_w() + winograd_origin(g_.w());
    const int64_t y0 = inside ? std::clamp<int64_t>(ceil_div(-row0, step), 0, rows) : rows;
    const int64_t y1 = std::clamp(ceil_div(g_.h().src - row0, step), y0, rows);
    const auto zero = [this](float* first, int64_t pixels) {
      std::memset(first, 0, static_cast<size_t>(pixels * pixel_) * sizeof(float));
    };
    // From the last channels to the first: what a vector has beyond the last of them is overwritten by those of the
    // next phase of the columns.
    for (int64_t c = (g_.src_c - 1) / lanes_ * lanes_; c >= 0; c -= lanes_) {
      const int64_t channels = std::min(lanes_, g_.src_c - c);
      zero(s.stage, y0 * cols);
      for (int64_t y = y0; y < y1; ++y) {
        const float* const line = src_ + from.offset + c * from.plane + (row0 + y * step) * from.row;
        for_runs(columns, col0, steps, [&](int64_t at, int64_t col, int64_t count) {
          float* const row = s.stage + (y * cols + at) * pixel_;
          const int64_t x0 = std::clamp<int64_t>(-col, 0, count), x1 = std::clamp(g_.w().src - col, x0, count);
          const float* const first = line + (col + x0) * from.col;
          zero(row, x0);
          kernels_.winograd.gather({first, row + x0 * pixel_, from.plane, channels, x1 - x0, pixel_});
          zero(row + x1 * pixel_, count - x1);
        });
      }
      zero(s.stage + y1 * cols * pixel_, (rows - y1) * cols);
      transform_stage(r, columns, cols, term + c, s);
    }
  }

  // The staged pixels of a vector of channels, `cols` in a row, to the terms from one on of the transformed tiles: from
  // phase to phase of a dilation to other tiles, of a stride to other terms. Of a stride and fewer channels than lanes,
  // a vector has the channels of several phases, as pixels follow each other without a gap.
  void transform_stage(const TileRows& r, const Columns& columns, int64_t cols, int64_t term, Scratch& s) const {
    const auto transform = kernels_.winograd.input[b_.form_h][b_.form_w];
    const int64_t step = columns.phases * b_.stride_w * pixel_;
    const bool strided = b_.phases_w > 1, dense = pixel_ < lanes_;
    const int64_t vectors = dense ? ceil_div(b_.phases_w * g_.src_c, lanes_) : columns.phases * b_.phases_w;
    const int64_t next_term = dense ? lanes_ : strided ? g_.src_c : 0, next_tile = strided ? 0 : columns.count;
    for (int64_t i = 0; i < r.rows; ++i)
      for (int64_t v = 0; v < vectors; ++v)
        transform({s.stage + i * h_.results * cols * pixel_ + v * lanes_, cols * pixel_, step, w_.results * step,
                   s.tiles + (r.tile + i * columns.tiles() + v * next_tile) * b_.tile_step + term + v * next_term,
                   b_.position_step, b_.tile_step, columns.count});
  }

  // Results of a row of tiles: where those of channel 0 begin; `pitch` pixels in a row of the small block.
  struct Results {
    Place at;
    const Columns& columns;
    int64_t rows, col0, pitch;
  };

  // The results of channels [channel0, channel1) of the group, from their sums.
  void write_tiles(int64_t group, const TileRows& r, const Columns& columns, int64_t channel0, int64_t channel1,
                   Scratch& s) const {
    const Place to = place(group, r.image / g_.d().dst, r.image % g_.d().dst,
                           {g_.dst_c, g_.d().dst, g_.h().dst_full, g_.w().dst_full});
    if (nhwc()) {
      const float* const bias = bias_ ? bias_ + group * g_.dst_c + channel0 : nullptr;
      for_tiles(r, columns, [&](int64_t y, int64_t x, int64_t tile) {
        pixels_.write({true, to.offset, to.row, to.col}, y, x, channel0, channel1 - channel0, bias,
                      s.sums + tile * b_.sum_step, s.results);
      });
      return;
    }
    const int64_t col0 = columns.first * w_.results * b_.dilation_w, last = columns.count - 1;
    const int64_t step = columns.phases * lanes_, whole = columns.count * w_.results * columns.phases;
    Results block{to, columns, 0, col0, b_.dilation_w == 1 ? std::min(g_.w().dst - col0, whole) : whole};
    block.at.row = to.row * b_.dilation_h;
    WinogradOutput o{};
    o.position = b_.sum_position, o.src_tile = -b_.sum_step;
    o.row = block.pitch * lanes_, o.col = step, o.dst_tile = -w_.results * step;
    o.tiles = columns.count;
    set_clamp(o, p_.activation, true);
    const auto transform = kernels_.winograd.output[b_.form_h][b_.form_w];
    for (int64_t tile_row = 0; tile_row < r.rows; ++tile_row) {
      const int64_t y = (r.first + tile_row) * h_.results, height = ceil_div(g_.h().dst - r.phase, b_.dilation_h);
      block.rows = std::min<int64_t>(h_.results, height - y);
      if (block.rows <= 0) return;  // the last tiles of a phase with fewer rows
      block.at.offset = to.offset + (y * b_.dilation_h + r.phase) * to.row;
      for (int64_t c = channel0; c < channel1; c += lanes_) {
        o.bias = bias_ ? bias_ + group * g_.dst_c + c : nullptr;
        const int64_t channels = std::min(lanes_, g_.dst_c - c);
        if (residual_) load_rows(s.residual, block, c, channels);
        for (int64_t phase = 0; phase < columns.phases; ++phase) {
          const int64_t tile = r.tile + tile_row * columns.tiles() + phase * columns.count + last;
          o.src = s.sums + tile * b_.sum_step + c - channel0;
          // From right to left: what a tile writes beyond the last column is the beginning of the next row, written
          // later.
          const int64_t first = last * w_.results * step + phase * lanes_;
          o.dst = s.results + first;
          o.add = residual_ ? s.residual + first : nullptr;
          transform(o);
        }
        if (curve_) curve_({s.results, 0, 1, 1, block.rows * block.pitch * lanes_});
        store_rows(s.results, block, c, channels);
      }
    }
  }

  // Calls f(pixel of the small block, pixel of the image, count) for what lies side by side in both.
  template <class F>
  void for_results(const Results& b, bool merge, const F& f) const {
    const int64_t steps = b.columns.count * w_.results;
    const bool whole = b_.dilation_h == 1 && b.columns.phases == b_.dilation_w && b.pitch == g_.w().dst;
    if (merge && whole)  // rows follow each other
      return f(0, b.at.offset, b.rows * b.pitch);
    for (int64_t i = 0; i < b.rows; ++i)
      for_runs(b.columns, b.col0, steps, [&](int64_t at, int64_t col, int64_t count) {
        count = std::min(count, g_.w().dst - col);
        if (count > 0) f(i * b.pitch + at, b.at.offset + i * b.at.row + col * b.at.col, count);
      });
  }

  // What is to be added, as store_rows has the block of results.
  void load_rows(float* block, const Results& b, int64_t c, int64_t channels) const {
    for_results(b, false, [&](int64_t at, int64_t from, int64_t count) {
      float* const to = block + at * lanes_;
      const float* const first = residual_ + from + c * b.at.plane;
      kernels_.winograd.gather({first, to, b.at.plane, channels, count, lanes_});
    });
  }

  // The block of pixels with `channels` lanes to the result.
  void store_rows(const float* block, const Results& b, int64_t c, int64_t channels) const {
    for_results(b, true, [&](int64_t at, int64_t to, int64_t count) {
      const float* const from = block + at * lanes_;
      float* const first = dst_ + to + c * b.at.plane;
      kernels_.winograd.scatter({from, first, b.at.plane, channels, count, lanes_});
    });
  }

  const ConvPlan& plan_;
  const ConvProblem& p_;
  const Gather& g_;
  const WinogradBlocking& b_;
  const WinogradForm &h_, &w_;
  const Kernels& kernels_;
  const int64_t lanes_, pixel_;  // pixel_: elements between staged pixels
  const CurveFunction<float> curve_;
  const WinogradPixels pixels_;
  const WinogradProducts products_;
  const float *src_, *residual_, *bias_ = nullptr;
  float* dst_;
  std::vector<Scratch> scratch_;
  std::vector<int64_t> last_block_;
};

}  // namespace

size_t winograd_thread_bytes(const ConvPlan& plan) {
  Carver carver(nullptr);
  const Scratch scratch(carver, plan);
  return carver.used();
}

void winograd_run(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace, Interrupt& interrupt) {
  if (plan.problem.direction == Direction::weight_gradient)
    return run_winograd_weights(plan, operands, workspace, interrupt);
  WinogradRun run(plan, operands, workspace);
  parallel_for(plan.blocking.items, plan.threads, interrupt,
               [&](int64_t item, int thread) { run.item(item, thread, interrupt); });
}

}  // namespace fastconv
