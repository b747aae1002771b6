#include "weight_gradient_outer.h"

#include <algorithm>
#include <cstring>

#include "../buffer.h"

namespace fastconv {
namespace {

int64_t width_of(const ConvPlan& plan) {
  return 2 * plan.machine.lanes(static_cast<int64_t>(size_of(plan.problem.dtype)));
}

int64_t most(const Split& split) { return ceil_div(split.count, split.parts); }

template <class T>
struct Scratch {
  T *stage, *columns, *panels, *sums;
  int64_t *a_segment, *b_segment;
  PixelRun* runs;
  Scratch(Carver& carver, const ConvPlan& plan) {
    const WeightOuterBlocking& b = plan.blocking.weight_outer;
    const int64_t channels = most(b.row_blocks), rows = channels * (b.panels ? plan.problem.taps() : 1);
    const int64_t width = width_of(plan), vectors = most(b.vector_groups);
    stage = carver.take<T>(b.flat || b.stage.in_place ? 0 : b.pieces_at_once * b.stage.elements(channels));
    columns = carver.take<T>(b.panels ? rows * (kWeightPanelPixels + kPackSlack) + kPackSlack : 0);
    panels = carver.take<T>(vectors * width * kWeightPanelPixels);
    sums = carver.take<T>(vectors * width * channels * plan.problem.taps());
    a_segment = carver.take<int64_t>(kWeightPanelPixels);
    b_segment = carver.take<int64_t>(kWeightPanelPixels);
    runs = carver.take<PixelRun>(b.block_rows + 1);
  }
};

// A block of pixels of one image: `segments` runs of `depth` pixels each.
struct Piece {
  int64_t image, first;  // first: pixel in its image, counted along the rows
  PixelBlock block;      // where the problem is not flat
  int64_t segments, depth;
  int64_t pixels() const { return segments * depth; }
};

template <class T>
class OuterRun {
 public:
  OuterRun(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace)
      : plan_(plan),
        p_(plan.problem),
        g_(plan.gathers[0]),
        b_(plan.blocking.weight_outer),
        pack_(typed<T>(kernels_for(plan.machine.isa).pack)),
        gemm_(typed<T>(kernels_for(plan.machine.isa).gemm)),
        width_(gemm_.width()),
        x_(static_cast<const T*>(operands.x)),
        y_(static_cast<const T*>(operands.y)),
        w_(static_cast<T*>(operands.w)) {
    Carver carver(workspace);
    partial_ = b_.chunks.parts > 1 ? carver.take<T>(b_.chunks.parts * p_.weight_elements()) : w_;
    for (int t = 0; t < plan.threads; ++t) {
      Carver thread(carver.take<std::byte>(static_cast<int64_t>(plan.blocking.thread_bytes)));
      scratch_.emplace_back(thread, plan);
    }
  }

  void item(int64_t item, int thread, Interrupt& interrupt) {
    Part part;
    const int64_t vector_group = item % b_.vector_groups.parts;
    const int64_t row_block = item / b_.vector_groups.parts % b_.row_blocks.parts;
    const int64_t outer = item / b_.vector_groups.parts / b_.row_blocks.parts;
    part.group = outer % p_.groups;
    part.vector0 = b_.vector_groups.begin(vector_group), part.vectors = b_.vector_groups.size(vector_group);
    part.channel0 = b_.row_blocks.begin(row_block), part.channels = b_.row_blocks.size(row_block);
    const int64_t chunk = outer / p_.groups, begin = b_.chunks.begin(chunk), end = b_.chunks.begin(chunk + 1);
    Scratch<T>& s = scratch_[static_cast<size_t>(thread)];
    if (begin == end) std::memset(s.sums, 0, static_cast<size_t>(part.vectors * sums_size(part)) * sizeof(T));
    for (int64_t first = begin; first < end && !interrupt.stop_here(thread);) {
      const int64_t depth = piece_at(first).depth;
      int64_t last = first, pixels = 0;
      for (; last < end && last - first < b_.pieces_at_once; ++last) {
        const Piece piece = piece_at(last);
        if (last > first && (piece.depth != depth || pixels + piece.pixels() > kWeightPanelPixels)) break;
        pixels += piece.pixels();
      }
      turn(part, first, last, pixels, s);
      const Rows rows = read_rows(part, first, last, pixels, s);
      multiply(part, rows, pixels, first > begin, s);
      first = last;
    }
    write(part, s.sums, partial_ + chunk * p_.weight_elements());
  }

  void sum_chunks(int64_t element0, int64_t element1) {
    const int64_t size = p_.weight_elements();
    std::memcpy(w_ + element0, partial_ + element0, static_cast<size_t>(element1 - element0) * sizeof(T));
    for (int64_t chunk = 1; chunk < b_.chunks.parts; ++chunk)
      for (int64_t e = element0; e < element1; ++e) w_[e] += partial_[chunk * size + e];
  }

 private:
  struct Part {
    int64_t group;
    int64_t vector0, vectors;    // tiles of the channels along the vector
    int64_t channel0, channels;  // down the rows
  };
  // Row i, tap t, pixel k of segment s at base[i * row + tap[t] + segment[s] + k * step].
  struct Rows {
    const T* base;
    int64_t count, row, step;
    const int64_t* tap;
    int64_t taps, segments, depth;
    bool in_source;  // where it lies, and nothing brought it near
  };
  // An operand as it lies: image, channel of all groups, pixel.
  struct Plane {
    const T* data;
    int64_t image, channel, pixel;
  };

  bool nhwc() const { return p_.layout == Layout::nhwc; }
  int64_t row_channels() const { return b_.row_blocks.count; }
  int64_t vector_channels() const { return b_.swapped ? p_.in_c_group() : p_.out_c_group(); }
  int64_t filter() const { return p_.in_c_group() * p_.taps(); }
  int64_t sums_size(const Part& part) const { return part.channels * p_.taps() * width_; }

  Plane plane(bool of_y, int64_t group) const {
    const T* const data = of_y ? y_ : x_;
    const int64_t all = of_y ? p_.out_c : p_.in_c, pixels = of_y ? p_.out_pixels() : p_.in_pixels();
    const int64_t channel0 = group * (all / p_.groups);
    if (nhwc()) return {data + channel0, pixels * all, 1, all};
    return {data + channel0 * pixels, pixels * all, pixels, 1};
  }

  Piece piece_at(int64_t index) const {
    Piece piece{};
    if (b_.flat) {
      const int64_t part = index % b_.flat_pixels.parts;
      piece.image = index / b_.flat_pixels.parts;
      piece.first = b_.flat_pixels.begin(part);
      piece.segments = 1;
      piece.depth = b_.flat_pixels.size(part);
      return piece;
    }
    const int64_t w = index % b_.w_blocks, h = index / b_.w_blocks % b_.h_blocks;
    PixelBlock& block = piece.block;
    block.d = index / b_.w_blocks / b_.h_blocks % b_.d_blocks;
    block.h0 = h * b_.block_rows;
    block.h1 = std::min(p_.h().out, block.h0 + b_.block_rows);
    block.w0 = w * b_.block_cols;
    block.w1 = std::min(p_.w().out, block.w0 + b_.block_cols);
    piece.image = index / b_.w_blocks / b_.h_blocks / b_.d_blocks;
    piece.first = (block.d * p_.h().out + block.h0) * p_.w().out + block.w0;
    piece.segments = block.h1 - block.h0;
    piece.depth = block.cols();
    return piece;
  }

  // The operand along the vector: a panel [pixel][lane] for each tile.
  void turn(const Part& part, int64_t first, int64_t last, int64_t pixels, Scratch<T>& s) const {
    const Plane from = plane(!b_.swapped, part.group);
    T* panel = s.panels;
    for (int64_t v = part.vector0; v < part.vector0 + part.vectors; ++v) {
      const int64_t channel = v * width_, channels = std::min(width_, vector_channels() - channel);
      const int64_t width = channels <= gemm_.lanes ? gemm_.lanes : width_;
      T* row = panel;
      for (int64_t i = first; i < last; ++i) {
        const Piece piece = piece_at(i);
        // Whole rows follow each other.
        const bool whole = b_.flat || piece.depth == p_.w().out;
        const int64_t runs = whole ? 1 : piece.segments, count = piece.pixels() / runs;
        for (int64_t r = 0; r < runs; ++r, row += count * width) {
          const int64_t pixel = piece.first + r * p_.w().out;
          const T* const at = from.data + piece.image * from.image + channel * from.channel + pixel * from.pixel;
          if (nhwc())
            pack_.pad_rows({row, width, width, 0, channels, at, from.pixel, 1, count});
          else
            pack_.transpose({row, width, width, at, from.channel, channels, count});
        }
      }
      panel += width * pixels;
    }
  }

  // The operand down the rows, in place, from a stage, or as columns.
  Rows read_rows(const Part& part, int64_t first, int64_t last, int64_t pixels, Scratch<T>& s) const {
    Rows rows{};
    rows.count = part.channels;
    rows.taps = 1;
    rows.depth = piece_at(first).depth;
    static constexpr int64_t kNoTap = 0;
    rows.tap = &kNoTap;
    if (b_.flat) {
      const Plane from = plane(b_.swapped, part.group);
      rows.base = from.data + part.channel0 * from.channel;
      rows.row = from.channel, rows.step = from.pixel;
      rows.in_source = !nhwc();
      for (int64_t i = first; i < last; ++i) {
        const Piece piece = piece_at(i);
        s.a_segment[rows.segments++] = piece.image * from.image + piece.first * from.pixel;
      }
      return rows;
    }
    const Plane from = plane(false, part.group);
    const T* const x = from.data + part.channel0 * from.channel;
    const int64_t pitch = kWeightPanelPixels + kPackSlack, stage_size = b_.stage.elements(part.channels);
    int64_t lane = 0;
    for (int64_t i = first; i < last; ++i) {
      const Piece piece = piece_at(i);
      const Source<T> source{x + piece.image * from.image, from.channel, p_.h().in * p_.w().in * from.pixel,
                             p_.w().in * from.pixel, from.pixel};
      T* const stage = s.stage + (i - first) * stage_size;
      if (!b_.stage.in_place) fill_stage(b_.stage, g_, source, piece.block, part.channels, pack_, stage);
      if (b_.panels) {
        pack_columns(piece.block, b_.stage.in_place ? source.data : stage, part.channels, s.columns + lane, pitch, s);
        lane += piece.pixels();
        continue;
      }
      const int64_t base = b_.stage.in_place ? piece.image * from.image : (i - first) * stage_size;
      for (int64_t jh = piece.block.h0; jh < piece.block.h1; ++jh)
        s.a_segment[rows.segments++] = base + b_.stage.row_offset(g_, piece.block, jh);
    }
    rows.step = 1;
    if (b_.panels) {
      rows.base = s.columns, rows.count = part.channels * p_.taps(), rows.row = pitch;
      rows.segments = 1, rows.depth = pixels;
      s.a_segment[0] = 0;
      return rows;
    }
    rows.base = b_.stage.in_place ? x : s.stage;
    rows.row = b_.stage.plane;
    rows.tap = b_.stage.tap_offset.data(), rows.taps = p_.taps();
    return rows;
  }

  void pack_columns(const PixelBlock& block, const T* base, int64_t channels, T* panel, int64_t pitch,
                    Scratch<T>& s) const {
    int64_t runs = 0, lane = 0;
    for (int64_t jh = block.h0; jh < block.h1; ++jh, lane += block.cols()) {
      const int64_t from = b_.stage.row_offset(g_, block, jh);
      if (runs && s.runs[runs - 1].from + s.runs[runs - 1].count == from)
        s.runs[runs - 1].count += block.cols();
      else
        s.runs[runs++] = {from, lane, block.cols()};
    }
    pack_.pixels({panel, pitch, 0, base, channels, b_.stage.plane, b_.stage.tap_offset.data(), p_.taps(), s.runs, runs,
                  b_.stage.in_place});
  }

  // sums[vector tile][tap][row][lane] (+)= rows x panels. As many rows at a time as stay in L2 while the panels pass.
  void multiply(const Part& part, const Rows& rows, int64_t pixels, bool accumulate, Scratch<T>& s) const {
    const Split tiles{rows.count, ceil_div(rows.count, gemm_.max_rows)};
    const int64_t row_bytes = pixels * static_cast<int64_t>(sizeof(T)), near = plan_.machine.l2_bytes / 4;
    const int64_t at_once = std::max<int64_t>(1, near / (row_bytes * gemm_.max_rows));
    GemmTile<T> t{};
    t.a_row = rows.row, t.a_k = rows.step;
    t.segments = rows.segments, t.depth = rows.depth;
    t.c_row = width_, t.c_col = 1;
    if (rows.segments > 1) t.a_segment = s.a_segment, t.b_segment = s.b_segment;
    const T* const base = rows.base + (rows.segments > 1 ? 0 : s.a_segment[0]);
    for (int64_t first = 0; first < tiles.parts; first += at_once) {
      const int64_t last = std::min(tiles.parts, first + at_once);
      t.b = s.panels;
      for (int64_t v = 0; v < part.vectors; ++v) {
        const int64_t channels = std::min(width_, vector_channels() - (part.vector0 + v) * width_);
        const int vectors = channels <= gemm_.lanes ? 1 : 2;
        t.b_k = vectors * gemm_.lanes;
        t.cols = static_cast<int>(t.b_k);
        for (int64_t i = 0; i < rows.segments; ++i) s.b_segment[i] = i * rows.depth * t.b_k;
        T* const sums = s.sums + v * sums_size(part);
        for (int64_t i = first; i < last; ++i) {
          if (rows.in_source && i + at_once < tiles.parts) ask_for(rows, s, tiles, i + at_once, v, part.vectors);
          for (int64_t tap = 0; tap < rows.taps; ++tap) {
            t.a = base + tiles.begin(i) * rows.row + rows.tap[tap];
            t.c = sums + (tap * rows.count + tiles.begin(i)) * width_;
            t.add = accumulate ? t.c : nullptr;
            gemm_.run(t, static_cast<int>(tiles.size(i)), vectors);
          }
        }
        t.b += pixels * t.b_k;
      }
    }
  }

  // The v-th part of the lines of a tile of rows, which lie in the source, a plane apart: they arrive in L2 meanwhile.
  static void ask_for(const Rows& rows, const Scratch<T>& s, const Split& tiles, int64_t tile, int64_t v,
                      int64_t parts) {
    constexpr int64_t line = 64 / sizeof(T);
    const Split lines{rows.depth * rows.step / line + 1, parts};
    for (int64_t i = 0; i < rows.segments; ++i)
      for (int64_t r = tiles.begin(tile); r < tiles.begin(tile + 1); ++r)
        for (int64_t l = lines.begin(v); l < lines.begin(v + 1); ++l)
          __builtin_prefetch(rows.base + s.a_segment[i] + r * rows.row + l * line, 0, 2);
  }

  // The sums of an item to their places in dw[out_c][in_c][tap].
  void write(const Part& part, const T* sums, T* dw) const {
    dw += part.group * p_.out_c_group() * filter();
    const int64_t taps = p_.taps();
    for (int64_t v = 0; v < part.vectors; ++v, sums += sums_size(part)) {
      const int64_t channel = (part.vector0 + v) * width_, channels = std::min(width_, vector_channels() - channel);
      if (b_.swapped) {
        T* const to = dw + part.channel0 * filter() + channel;
        pack_.pad_rows({to, filter(), channels, 0, channels, sums, width_, 1, part.channels});
        continue;
      }
      T* const to = dw + channel * filter() + part.channel0 * taps;
      if (b_.panels || taps == 1) {
        const int64_t rows = part.channels * taps;
        pack_.transpose({to, filter(), rows, sums, width_, rows, channels});
        continue;
      }
      for (int64_t c = 0; c < part.channels; ++c)
        pack_.transpose({to + c * taps, filter(), taps, sums + c * width_, part.channels * width_, taps, channels});
    }
  }

  const ConvPlan& plan_;
  const ConvProblem& p_;
  const Gather& g_;
  const WeightOuterBlocking& b_;
  const PackKernel<T>& pack_;
  const GemmKernel<T>& gemm_;
  const int64_t width_;
  const T *x_, *y_;
  T *w_, *partial_;
  std::vector<Scratch<T>> scratch_;
};

}  // namespace

void prepare_weight_outer(ConvPlan& plan, bool panels) {
  const ConvProblem& p = plan.problem;
  WeightOuterBlocking& b = plan.blocking.weight_outer;
  b = block_weight_outer(p, plan.gathers[0], plan.machine, panels);
  const auto measure = [&](auto zero) {
    Carver carver(nullptr);
    const Scratch<decltype(zero)> scratch(carver, plan);
    return carver.used();
  };
  plan.blocking.thread_bytes = visit_dtype(p.dtype, measure);
  const size_t copies = static_cast<size_t>(b.chunks.parts * p.weight_elements()) * size_of(p.dtype);
  plan.workspace_bytes =
      (b.chunks.parts > 1 ? align_up(copies) : 0) + static_cast<size_t>(plan.threads) * plan.blocking.thread_bytes;
}

void run_weight_outer(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace, Interrupt& interrupt) {
  visit_dtype(plan.problem.dtype, [&](auto zero) {
    OuterRun<decltype(zero)> run(plan, operands, workspace);
    const WeightOuterBlocking& b = plan.blocking.weight_outer;
    const int64_t items = b.chunks.parts * plan.problem.groups * b.row_blocks.parts * b.vector_groups.parts;
    parallel_for(items, plan.threads, interrupt, [&](int64_t item, int thread) { run.item(item, thread, interrupt); });
    if (b.chunks.parts == 1) return;
    const Split parts{plan.problem.weight_elements(), plan.threads};
    parallel_for(parts.parts, plan.threads, interrupt,
                 [&](int64_t part, int) { run.sum_chunks(parts.begin(part), parts.begin(part + 1)); });
  });
}

}  // namespace fastconv
