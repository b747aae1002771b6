// The row `winograd` as weight gradient: the forward algorithm read backwards.
//
//   y = A [ u * (B d) ],  u = G g       so that      dg = G^T [ sum over tiles of (B d) * (A^T dy) ]
//
//   for group: for chunk of tile rows of all images:
//     v[position][tile][in_c] = B d,  z[position][tile][out_c] = A^T dy          one vector of channels per item
//     for item = (block of out_c, block of in_c):                                one thread each
//       for position: gemm tile along the tiles:  sums[position][out_c][in_c] += z * v
//       after the last chunk: dg = G^T sums, to the result
//
// The order of a sum is that of the tiles, so that no number of threads changes it. With one chunk the sums of a block
// stay in L2 and are never written elsewhere; with several they lie in the workspace between chunks.
//
// Where the sums are small, many chunks pass over few of them, and threads that share a chunk would take its lines from
// each other twice. There the chunks form sections, as many as the problem says and not the threads: a thread
// transforms and multiplies a section alone, from memory of its own into sums of the section; the sums of the sections
// are added up in their order, on the way to the result. Eight sections lost to four where the sums are 1 MB each, and
// adding them up filter by filter, a line or two of each position, to a vector of filters at a time.
#include <algorithm>
#include <cstring>
#include <optional>

#include "../buffer.h"
#include "winograd.h"

namespace fastconv {
namespace {

// Terms that are summed in registers before they are added up: rounding grows with the length of a sum.
constexpr int64_t kTerms = 128;

// Chunks as their two transforms leave them.
struct Transformed {
  float *v, *z;
  Transformed(Carver& carver, const WinogradWeightBlocking& b)
      : v(carver.take<float>(b.in_blocks.parts * b.positions * b.in_position)),
        z(carver.take<float>(b.out_blocks.parts * b.positions * b.out_position)) {}
};

int64_t blocks_of_sums(const WinogradWeightBlocking& b) { return b.in_blocks.parts * b.out_blocks.parts; }

int64_t kept_sums(const WinogradWeightBlocking& b) {
  return b.rows.parts > 1 ? b.sections.parts * blocks_of_sums(b) * b.positions * b.sum_position : 0;
}

struct Scratch {
  float *stage, *sums, *taps;
  std::optional<Transformed> own;  // where threads do not share chunks
  Scratch(Carver& carver, const ConvPlan& plan) {
    const WinogradWeightBlocking& b = plan.blocking.winograd_weight;
    const WinogradForm &h = kWinogradForms[b.form_h], &w = kWinogradForms[b.form_w];
    const int64_t rows = std::min(b.tiles_h, ceil_div(b.rows.count, b.rows.parts));
    const int64_t pixels = (rows * h.results + h.alpha) * (b.tiles_w * w.results + w.alpha);
    const int64_t lanes = plan.machine.lanes(sizeof(float));
    stage = carver.take<float>(pixels * lanes);
    sums = carver.take<float>(b.positions * (b.sections.parts > 1 ? lanes * b.in_width : b.sum_position));
    taps = carver.take<float>(plan.problem.taps() * b.in_width);
    if (b.sections.parts > 1) own.emplace(carver, b);
  }
};

// Rows [first, first + rows) of the tiles of one image; `tile`: the chunk's number of the first.
struct TileRows {
  int64_t image, first, rows, tile;
};

// One of the operands as its transform reads it.
struct Operand {
  const float* data;
  int64_t channels, height, width;  // of a group; of a plane
  int64_t row0, col0;               // where the first tile begins
  int64_t tile_rows, tile_cols;     // pixels that a tile reads
  Split blocks;                     // vectors of channels
  int64_t lanes_of_block, position;
  void (*transform)(const WinogradInput&);
};

class WinogradWeightRun {
 public:
  WinogradWeightRun(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace)
      : plan_(plan),
        p_(plan.problem),
        b_(plan.blocking.winograd_weight),
        h_(kWinogradForms[b_.form_h]),
        w_(kWinogradForms[b_.form_w]),
        kernels_(kernels_for(plan.machine.isa)),
        lanes_(kernels_.winograd.lanes),
        dw_(static_cast<float*>(operands.w)) {
    Carver carver(workspace);
    if (b_.sections.parts == 1) shared_.emplace(carver, b_);
    sums_ = carver.take<float>(kept_sums(b_));
    const Gather& g = plan.gathers[0];
    x_ = {static_cast<const float*>(operands.x),
          p_.in_c_group(),
          p_.h().in,
          p_.w().in,
          winograd_origin(g.h()),
          winograd_origin(g.w()),
          h_.alpha,
          w_.alpha,
          b_.in_blocks,
          b_.in_width,
          b_.in_position,
          kernels_.winograd.input[b_.form_h][b_.form_w]};
    y_ = {static_cast<const float*>(operands.y),
          p_.out_c_group(),
          p_.h().out,
          p_.w().out,
          0,
          0,
          h_.results,
          w_.results,
          b_.out_blocks,
          b_.out_width,
          b_.out_position,
          kernels_.winograd.spread[b_.form_h][b_.form_w]};
    for (int t = 0; t < plan.threads; ++t) {
      Carver thread(carver.take<std::byte>(static_cast<int64_t>(plan.blocking.thread_bytes)));
      scratch_.emplace_back(thread, plan);
    }
  }

  int64_t transforms() const { return x_.blocks.count + y_.blocks.count; }
  int64_t products() const { return blocks_of_sums(b_); }

  void transform(int64_t group, int64_t chunk, int64_t item, int thread) const {
    const bool of_x = item < x_.blocks.count;
    const Operand& o = of_x ? x_ : y_;
    const int64_t vector = of_x ? item : item - x_.blocks.count;
    const int64_t block = block_of(o.blocks, vector);
    const Transformed& t = transformed(thread);
    float* const to =
        (of_x ? t.v : t.z) + block * b_.positions * o.position + (vector - o.blocks.begin(block)) * lanes_;
    int64_t row = b_.rows.begin(chunk);
    const int64_t begin = row, end = b_.rows.begin(chunk + 1);
    while (row < end) {
      const int64_t first = row % b_.tiles_h, rows = std::min(end - row, b_.tiles_h - first);
      const TileRows r{row / b_.tiles_h, first, rows, (row - begin) * b_.tiles_w};
      read_tiles(o, group, vector * lanes_, r, scratch_[static_cast<size_t>(thread)].stage, to);
      row += rows;
    }
  }

  // Adds a chunk to the sums of a block, and to the first chunk of a section nothing.
  void multiply(int64_t section, int64_t chunk, int64_t item, int thread) const {
    const int64_t in = item % b_.in_blocks.parts, out = item / b_.in_blocks.parts;
    const int64_t row = y_.blocks.begin(out) * lanes_;
    const int64_t rows = std::min(y_.channels - row, y_.blocks.size(out) * lanes_);
    add_products(transformed(thread), in, out, rows, b_.rows.size(chunk) * b_.tiles_w,
                 chunk > b_.sections.begin(section), sums(section, item, thread));
  }

  // The filters of a block of sums, once all chunks are in it.
  void finish(int64_t group, int64_t item, int thread) const {
    const int64_t in = item % b_.in_blocks.parts, out = item / b_.in_blocks.parts;
    const int64_t row = y_.blocks.begin(out) * lanes_, rows = std::min(y_.channels - row, y_.blocks.size(out) * lanes_);
    for (int64_t i = 0; i < rows; ++i)
      to_filter(group, in, row + i, sums(0, item, thread) + i * b_.in_width, b_.sum_position, thread);
  }

  // The same from several sections, a vector of filters per item: lines that follow each other in every position.
  int64_t filters() const { return b_.in_blocks.parts * y_.blocks.count; }
  void add_sections(int64_t group, int64_t item, int thread) const {
    const int64_t in = item % b_.in_blocks.parts, vector = item / b_.in_blocks.parts;
    const int64_t out = block_of(y_.blocks, vector), row = vector * lanes_;
    const int64_t rows = std::min(y_.channels - row, lanes_), count = rows * b_.in_width;
    const int64_t first = (vector - y_.blocks.begin(out)) * lanes_ * b_.in_width;
    float* const total = scratch_[static_cast<size_t>(thread)].sums;
    for (int64_t section = 0; section < b_.sections.parts; ++section) {
      const float* from = sums(section, out * b_.in_blocks.parts + in, thread) + first;
      for (float* to = total; to < total + b_.positions * count; to += count, from += b_.sum_position)
        for (int64_t i = 0; i < count; ++i) to[i] = section > 0 ? to[i] + from[i] : from[i];
    }
    for (int64_t i = 0; i < rows; ++i) to_filter(group, in, row + i, total + i * b_.in_width, count, thread);
  }

 private:
  bool nhwc() const { return p_.layout == Layout::nhwc; }

  static int64_t block_of(const Split& blocks, int64_t vector) {
    int64_t block = 0;
    while (blocks.begin(block + 1) <= vector) ++block;
    return block;
  }

  const Transformed& transformed(int thread) const {
    return shared_ ? *shared_ : *scratch_[static_cast<size_t>(thread)].own;
  }

  float* sums(int64_t section, int64_t item, int thread) const {
    if (b_.rows.parts == 1) return scratch_[static_cast<size_t>(thread)].sums;
    return sums_ + (section * products() + item) * b_.positions * b_.sum_position;
  }

  // Sums at the points, `position` apart, to the filter of an output channel and a block of input channels.
  void to_filter(int64_t group, int64_t in, int64_t row, const float* sums, int64_t position, int thread) const {
    const int64_t taps = p_.taps(), channel = x_.blocks.begin(in) * lanes_;
    const int64_t channels = std::min(x_.channels - channel, x_.blocks.size(in) * lanes_);
    float* const filter = scratch_[static_cast<size_t>(thread)].taps;
    WinogradOutput o{};
    o.src = sums, o.position = position, o.src_tile = lanes_;
    o.dst = filter, o.row = plan_.gathers[0].w().taps * b_.in_width, o.col = b_.in_width, o.dst_tile = lanes_;
    o.tiles = x_.blocks.size(in);
    kernels_.winograd.taps[b_.form_h][b_.form_w](o);
    float* const dw = dw_ + ((group * y_.channels + row) * x_.channels + channel) * taps;
    kernels_.pack.f32.transpose({dw, taps, taps, filter, b_.in_width, taps, channels});
  }

  // Images are those of the batch, and each slice of a volume is one.
  void read_tiles(const Operand& o, int64_t group, int64_t c, const TileRows& r, float* stage, float* to) const {
    const int64_t rows = (r.rows - 1) * h_.results + o.tile_rows, cols = (b_.tiles_w - 1) * w_.results + o.tile_cols;
    const int64_t row0 = r.first * h_.results + o.row0;
    const int64_t y0 = std::clamp<int64_t>(-row0, 0, rows), y1 = std::clamp(o.height - row0, y0, rows);
    const int64_t x0 = std::clamp<int64_t>(-o.col0, 0, cols), x1 = std::clamp(o.width - o.col0, x0, cols);
    const int64_t depth = p_.d().out, all = o.channels * p_.groups, n = r.image / depth, d = r.image % depth;
    const int64_t channel = group * o.channels + c, channels = std::min(lanes_, o.channels - c);
    const auto zero = [this](float* first, int64_t pixels) {
      std::memset(first, 0, static_cast<size_t>(pixels * lanes_) * sizeof(float));
    };
    zero(stage, y0 * cols);
    for (int64_t y = y0; y < y1; ++y) {
      float* const row = stage + y * cols * lanes_;
      const int64_t pixel = (row0 + y) * o.width + o.col0 + x0;
      zero(row, x0);
      if (nhwc()) {
        const float* const first = o.data + ((n * depth + d) * o.height * o.width + pixel) * all + channel;
        kernels_.pack.f32.pad_rows({row + x0 * lanes_, lanes_, lanes_, 0, channels, first, all, 1, x1 - x0});
      } else {
        const float* const first = o.data + ((n * all + channel) * depth + d) * o.height * o.width + pixel;
        kernels_.winograd.gather({first, row + x0 * lanes_, depth * o.height * o.width, channels, x1 - x0, lanes_});
      }
      zero(row + x1 * lanes_, cols - x1);
    }
    zero(stage + y1 * cols * lanes_, (rows - y1) * cols);
    for (int64_t i = 0; i < r.rows; ++i)
      o.transform({stage + i * h_.results * cols * lanes_, cols * lanes_, lanes_, w_.results * lanes_,
                   to + (r.tile + i * b_.tiles_w) * o.lanes_of_block, o.position, o.lanes_of_block, b_.tiles_w});
  }

  void add_products(const Transformed& chunk, int64_t in, int64_t out, int64_t rows, int64_t tiles, bool accumulate,
                    float* sums) const {
    const int64_t vectors = x_.blocks.size(in);
    const GemmKernel<float>& gemm = kernels_.gemm.f32;
    const Split heights{rows, ceil_div(rows, gemm.max_rows)},
        terms{tiles, std::max<int64_t>(1, ceil_div(tiles, kTerms))};
    GemmTile<float> t{};
    t.segments = 1;
    t.a_row = 1, t.a_k = b_.out_width, t.b_k = b_.in_width;
    t.c_row = b_.in_width, t.c_col = 1;
    for (int64_t position = 0; position < b_.positions; ++position) {
      const float* const z = chunk.z + (out * b_.positions + position) * b_.out_position;
      const float* const v = chunk.v + (in * b_.positions + position) * b_.in_position;
      for (int64_t k = 0; k < terms.parts; ++k) {
        t.depth = terms.size(k);
        for (int64_t q = 0; q < vectors; q += 2) {
          const int wide = q + 1 < vectors ? 2 : 1;
          t.cols = static_cast<int>(wide * lanes_);
          t.b = v + terms.begin(k) * b_.in_width + q * lanes_;
          for (int64_t i = 0; i < heights.parts; ++i) {
            t.a = z + terms.begin(k) * b_.out_width + heights.begin(i);
            t.c = sums + position * b_.sum_position + heights.begin(i) * b_.in_width + q * lanes_;
            t.add = accumulate || k > 0 ? t.c : nullptr;
            gemm.run(t, static_cast<int>(heights.size(i)), wide);
          }
        }
      }
    }
  }

  const ConvPlan& plan_;
  const ConvProblem& p_;
  const WinogradWeightBlocking& b_;
  const WinogradForm &h_, &w_;
  const Kernels& kernels_;
  const int64_t lanes_;
  float *dw_, *sums_;
  Operand x_, y_;
  std::optional<Transformed> shared_;
  std::vector<Scratch> scratch_;
};

}  // namespace

void prepare_winograd_weights(ConvPlan& plan) {
  WinogradWeightBlocking& b = plan.blocking.winograd_weight;
  b = choose_winograd_weights(plan.problem, plan.gathers[0], plan.machine);
  Carver thread(nullptr);
  const Scratch scratch(thread, plan);
  plan.blocking.thread_bytes = thread.used();
  Carver carver(nullptr);
  if (b.sections.parts == 1) Transformed(carver, b);
  carver.take<float>(kept_sums(b));
  plan.workspace_bytes = carver.used() + static_cast<size_t>(plan.threads) * plan.blocking.thread_bytes;
}

void run_winograd_weights(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace,
                          Interrupt& interrupt) {
  const WinogradWeightRun run(plan, operands, workspace);
  const Split& sections = plan.blocking.winograd_weight.sections;
  const auto on_threads = [&](int64_t items, auto f) { parallel_for(items, plan.threads, interrupt, f); };
  for (int64_t group = 0; group < plan.problem.groups; ++group) {
    if (sections.parts > 1) {
      on_threads(sections.parts, [&](int64_t section, int thread) {
        for (int64_t chunk = sections.begin(section); chunk < sections.begin(section + 1); ++chunk) {
          if (interrupt.stop_here(thread)) return;
          for (int64_t item = 0; item < run.transforms(); ++item) run.transform(group, chunk, item, thread);
          for (int64_t item = 0; item < run.products(); ++item) run.multiply(section, chunk, item, thread);
        }
      });
      on_threads(run.filters(), [&](int64_t item, int thread) { run.add_sections(group, item, thread); });
      continue;
    }
    for (int64_t chunk = 0; chunk < sections.count; ++chunk) {
      on_threads(run.transforms(), [&](int64_t item, int thread) { run.transform(group, chunk, item, thread); });
      on_threads(run.products(), [&](int64_t item, int thread) {
        run.multiply(0, chunk, item, thread);
        if (chunk + 1 == sections.count) run.finish(group, item, thread);
      });
    }
  }
}

}  // namespace fastconv
