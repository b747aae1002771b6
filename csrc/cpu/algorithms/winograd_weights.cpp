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
#include <algorithm>
#include <cstring>

#include "../buffer.h"
#include "winograd.h"

namespace fastconv {
namespace {

// Terms that are summed in registers before they are added up: rounding grows with the length of a sum.
constexpr int64_t kTerms = 128;

struct Scratch {
  float *stage, *sums, *taps;
  Scratch(Carver& carver, const ConvPlan& plan) {
    const WinogradWeightBlocking& b = plan.blocking.winograd_weight;
    const WinogradForm &h = kWinogradForms[b.form_h], &w = kWinogradForms[b.form_w];
    const int64_t rows = std::min(b.tiles_h, ceil_div(b.rows.count, b.rows.parts));
    const int64_t pixels = (rows * h.results + h.alpha) * (b.tiles_w * w.results + w.alpha);
    stage = carver.take<float>(pixels * plan.machine.lanes(sizeof(float)));
    sums = carver.take<float>(b.rows.parts > 1 ? 0 : b.positions * b.sum_position);
    taps = carver.take<float>(plan.problem.taps() * b.in_width);
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
  float* transformed;
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
    float* const v = carver.take<float>(b_.in_blocks.parts * b_.positions * b_.in_position);
    float* const z = carver.take<float>(b_.out_blocks.parts * b_.positions * b_.out_position);
    const int64_t kept = b_.rows.parts > 1 ? b_.in_blocks.parts * b_.out_blocks.parts : 0;
    sums_ = carver.take<float>(kept * b_.positions * b_.sum_position);
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
          v,
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
          z,
          kernels_.winograd.spread[b_.form_h][b_.form_w]};
    for (int t = 0; t < plan.threads; ++t) {
      Carver thread(carver.take<std::byte>(static_cast<int64_t>(plan.blocking.thread_bytes)));
      scratch_.emplace_back(thread, plan);
    }
  }

  int64_t transforms() const { return x_.blocks.count + y_.blocks.count; }
  int64_t products() const { return b_.in_blocks.parts * b_.out_blocks.parts; }

  void transform(int64_t group, int64_t chunk, int64_t item, int thread) const {
    const bool of_x = item < x_.blocks.count;
    const Operand& o = of_x ? x_ : y_;
    const int64_t vector = of_x ? item : item - x_.blocks.count;
    int64_t block = 0;
    while (o.blocks.begin(block + 1) <= vector) ++block;
    float* const to = o.transformed + block * b_.positions * o.position + (vector - o.blocks.begin(block)) * lanes_;
    int64_t row = b_.rows.begin(chunk);
    const int64_t begin = row, end = b_.rows.begin(chunk + 1);
    while (row < end) {
      const int64_t first = row % b_.tiles_h, rows = std::min(end - row, b_.tiles_h - first);
      const TileRows r{row / b_.tiles_h, first, rows, (row - begin) * b_.tiles_w};
      read_tiles(o, group, vector * lanes_, r, scratch_[static_cast<size_t>(thread)].stage, to);
      row += rows;
    }
  }

  void multiply(int64_t group, int64_t chunk, int64_t item, int thread) const {
    const int64_t in = item % b_.in_blocks.parts, out = item / b_.in_blocks.parts;
    const int64_t channel = x_.blocks.begin(in) * lanes_, row = y_.blocks.begin(out) * lanes_;
    const int64_t channels = std::min(x_.channels - channel, x_.blocks.size(in) * lanes_);
    const int64_t rows = std::min(y_.channels - row, y_.blocks.size(out) * lanes_);
    const Scratch& s = scratch_[static_cast<size_t>(thread)];
    float* const sums = b_.rows.parts > 1 ? sums_ + item * b_.positions * b_.sum_position : s.sums;
    add_products(in, out, rows, x_.blocks.size(in), b_.rows.size(chunk) * b_.tiles_w, chunk > 0, sums);
    if (chunk + 1 < b_.rows.parts) return;
    const int64_t taps = p_.taps();
    float* const dw = dw_ + ((group * y_.channels + row) * x_.channels + channel) * taps;
    WinogradOutput o{};
    o.position = b_.sum_position, o.src_tile = lanes_;
    o.dst = s.taps, o.row = plan_.gathers[0].w().taps * b_.in_width, o.col = b_.in_width, o.dst_tile = lanes_;
    o.tiles = x_.blocks.size(in);
    for (int64_t i = 0; i < rows; ++i) {
      o.src = sums + i * b_.in_width;
      kernels_.winograd.taps[b_.form_h][b_.form_w](o);
      kernels_.pack.f32.transpose({dw + i * x_.channels * taps, taps, taps, s.taps, b_.in_width, taps, channels});
    }
  }

 private:
  bool nhwc() const { return p_.layout == Layout::nhwc; }

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
        kernels_.winograd.gather({first, row + x0 * lanes_, depth * o.height * o.width, channels, x1 - x0});
      }
      zero(row + x1 * lanes_, cols - x1);
    }
    zero(stage + y1 * cols * lanes_, (rows - y1) * cols);
    for (int64_t i = 0; i < r.rows; ++i)
      o.transform({stage + i * h_.results * cols * lanes_, cols * lanes_, lanes_, w_.results * lanes_,
                   to + (r.tile + i * b_.tiles_w) * o.lanes_of_block, o.position, o.lanes_of_block, b_.tiles_w});
  }

  void add_products(int64_t in, int64_t out, int64_t rows, int64_t vectors, int64_t tiles, bool accumulate,
                    float* sums) const {
    const GemmKernel<float>& gemm = kernels_.gemm.f32;
    const Split heights{rows, ceil_div(rows, gemm.max_rows)},
        terms{tiles, std::max<int64_t>(1, ceil_div(tiles, kTerms))};
    GemmTile<float> t{};
    t.segments = 1;
    t.a_row = 1, t.a_k = b_.out_width, t.b_k = b_.in_width;
    t.c_row = b_.in_width, t.c_col = 1;
    for (int64_t position = 0; position < b_.positions; ++position) {
      const float* const z = y_.transformed + (out * b_.positions + position) * b_.out_position;
      const float* const v = x_.transformed + (in * b_.positions + position) * b_.in_position;
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
  std::vector<Scratch> scratch_;
};

// Bytes of transformed numbers that a chunk keeps at most: two fifths of L3, which others use too.
int64_t most_chunk_bytes(const Machine& m) { return std::clamp<int64_t>(m.l3_bytes * 2 / 5, 4 << 20, 24 << 20); }

// Each chunk passes over the sums once, so that it is worth four times their size. Not more than that, but for two L2s
// in which tiles are transformed in rows long enough: what is written and read back soon is still close by, even where
// the rest of a network has been through the caches in between.
int64_t chunk_bytes(const Machine& m, int64_t sums) {
  return std::min(std::max(4 * sums, 2 * m.l2_bytes), most_chunk_bytes(m));
}

WinogradWeightBlocking block_weights(const ConvProblem& p, const Machine& m, int form_h, int form_w) {
  const WinogradForm &h = kWinogradForms[form_h], &w = kWinogradForms[form_w];
  const int64_t lanes = m.lanes(sizeof(float)), element = static_cast<int64_t>(sizeof(float));
  WinogradWeightBlocking b;
  b.form_h = form_h, b.form_w = form_w;
  b.positions = h.alpha * w.alpha;
  b.tiles_h = ceil_div(p.h().out, h.results);
  b.tiles_w = ceil_div(p.w().out, w.results);
  const int64_t in = ceil_div(p.in_c_group(), lanes), out = ceil_div(p.out_c_group(), lanes);
  // A block of sums in half of L2, four vectors wide.
  const int64_t wide = std::min<int64_t>(in, 4);
  const int64_t high = std::max<int64_t>(1, m.l2_bytes / 2 / (b.positions * wide * lanes * element) / lanes);
  b.in_blocks = {in, ceil_div(in, wide)};
  b.out_blocks = {out, ceil_div(out, std::min(high, ceil_div(64, lanes)))};
  b.in_width = ceil_div(in, b.in_blocks.parts) * lanes;
  b.out_width = ceil_div(out, b.out_blocks.parts) * lanes;
  const int64_t rows = p.batch * p.d().out * b.tiles_h;
  const int64_t sums = b.positions * in * out * lanes * lanes * element;
  const int64_t row_bytes = b.tiles_w * b.positions * (in + out) * lanes * element;
  b.rows = {rows, std::max<int64_t>(1, ceil_div(rows, std::max<int64_t>(1, chunk_bytes(m, sums) / row_bytes)))};
  // Positions an odd number of cache lines apart: a power of two would put all of a tile into the same sets.
  const int64_t line = static_cast<int64_t>(kAlignment / sizeof(float));
  const auto spread = [line](int64_t elements) { return (ceil_div(elements, line) | 1) * line; };
  const int64_t tiles = ceil_div(rows, b.rows.parts) * b.tiles_w;
  b.in_position = spread(tiles * b.in_width);
  b.out_position = spread(tiles * b.out_width);
  b.sum_position = spread(b.out_width * b.in_width);
  return b;
}

// As in winograd.cpp: operations of the transforms of a line, and by how much they are slower than that; cycles to
// bring the sums of one weight to the result; cycles per byte of sums kept between chunks, in L3 and in memory.
constexpr double kTransform = 1.3, kStagePixel = 3, kFinish = 12, kFromL3 = 0.12, kFromMemory = 0.4;

double weights_cycles(const ConvProblem& p, const Machine& m, const WinogradWeightBlocking& b) {
  const int64_t lanes = m.lanes(sizeof(float)), in = p.in_c_group(), out = p.out_c_group();
  const WinogradForm &h = kWinogradForms[b.form_h], &w = kWinogradForms[b.form_w];
  const double tiles = static_cast<double>(b.rows.count * b.tiles_w), positions = static_cast<double>(b.positions);
  const double in_vectors = tiles * static_cast<double>(b.in_blocks.count);
  const double out_vectors = tiles * static_cast<double>(b.out_blocks.count);
  const double lines = (w.alpha * winograd_line_in(h.alpha) + h.alpha * winograd_line_in(w.alpha)) / 2;
  const double pixels = kStagePixel * h.results * w.results;
  const double transforms = (in_vectors + out_vectors) * (lines + 2 * positions + pixels) * kTransform;
  const double products = positions * tiles * 1.1 * tile_cycles(out, gemm_rows(m), in, lanes);
  const double weights = static_cast<double>(in * out), sums = weights * positions * sizeof(float);
  const double passes = 2.0 * static_cast<double>(b.rows.parts - 1) * sums;
  const bool far = sums + static_cast<double>(most_chunk_bytes(m)) > 0.7 * static_cast<double>(m.l3_bytes);
  return (transforms + products + weights * kFinish + passes * (far ? kFromMemory : kFromL3)) *
         static_cast<double>(p.groups);
}

WinogradWeightBlocking choose_weights(const ConvProblem& p, const Gather& g, const Machine& m) {
  WinogradWeightBlocking best;
  double least = 0;
  for (const int alpha : {4, 6, 8}) {
    const int h = winograd_form(g.h().taps, alpha), w = winograd_form(g.w().taps, alpha);
    if (h < 0 || w < 0) continue;
    const WinogradWeightBlocking b = block_weights(p, m, h, w);
    const double cycles = weights_cycles(p, m, b);
    if (best.positions == 0 || cycles < least * (alpha == 8 ? kWinogradLongFormGain : 1)) least = cycles, best = b;
  }
  return best;
}

}  // namespace

double winograd_weights_cost(const ConvProblem& p, const Machine& m) {
  return weights_cycles(p, m, choose_weights(p, make_gathers(p)[0], m));
}

void prepare_winograd_weights(ConvPlan& plan) {
  WinogradWeightBlocking& b = plan.blocking.winograd_weight;
  b = choose_weights(plan.problem, plan.gathers[0], plan.machine);
  Carver thread(nullptr);
  const Scratch scratch(thread, plan);
  plan.blocking.thread_bytes = thread.used();
  Carver carver(nullptr);
  carver.take<float>(b.in_blocks.parts * b.positions * b.in_position);
  carver.take<float>(b.out_blocks.parts * b.positions * b.out_position);
  carver.take<float>((b.rows.parts > 1 ? b.in_blocks.parts * b.out_blocks.parts : 0) * b.positions * b.sum_position);
  plan.workspace_bytes = carver.used() + static_cast<size_t>(plan.threads) * plan.blocking.thread_bytes;
}

void run_winograd_weights(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace,
                          Interrupt& interrupt) {
  const WinogradWeightRun run(plan, operands, workspace);
  for (int64_t group = 0; group < plan.problem.groups; ++group)
    for (int64_t chunk = 0; chunk < plan.blocking.winograd_weight.rows.parts; ++chunk) {
      parallel_for(run.transforms(), plan.threads, interrupt,
                   [&](int64_t item, int thread) { run.transform(group, chunk, item, thread); });
      parallel_for(run.products(), plan.threads, interrupt,
                   [&](int64_t item, int thread) { run.multiply(group, chunk, item, thread); });
    }
}

}  // namespace fastconv
