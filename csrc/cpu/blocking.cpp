#include "blocking.h"

#include <algorithm>
#include <numeric>

#include "spread.h"

namespace fastconv {
namespace {

// Products of K terms are summed in registers; a longer sum goes through the result in several passes. A panel of
// weights of 640 x 16 floats (40 KB), which passes through L1, and those of the pixels leave each other room in a 512
// KB L2; shorter passes lose to their stores. Zen 3.
constexpr int64_t kDepth = 640;

// The same where channels lie along the vector and pixels in place or straight from the source go down the rows of the
// tile: their panels are less than half as wide, no stage is in L2 beside them, and each pass costs a transposed store.
constexpr int64_t kDepthDown = 1024;

// Cycles per element to bring a finished tile to the result: whole vectors, transposed in registers, one by one.
// Fitted to single tiles in L1 on Zen 5 and Zen 3; only their order matters for the choice. A pass over a result that
// holds the sum of the passes before it loads it as well.
constexpr double kStoreVector = 0.1, kStoreTransposed = 1.0, kStoreScalar = 3.0;

// Cycles to load and store one vector of a panel and of the stage; the share by which tiles run slower from panels in
// L2. From the 27 layers of the benchmarks, one thread, Zen 5 and Zen 3.
constexpr double kPackVector = 3, kStageVector = 4, kPanelShare = 0.04;
// The same for a vector of a panel straight from the source (spread.h), where a stride is taken; to list one, which is
// done once for all channels of a pass. Zen 3.
constexpr double kSpreadStrided = 5.6, kListMove = 25;
// Cycles to begin a row of the stage and one of each phase of a stride. From layers with short sums, Zen 3. A vector of
// a row that is divided into its phases as it is read (`read_once`): from first layers of stride 2 and 4, Zen 3.
constexpr double kStageRow = 8, kStagePhase = 12, kStageDivided = 3;
// Cycles per element of a stage divided by a stride that vectors do not take. Zen 3.
constexpr double kStageElement = 6;
// Bytes a cycle of weights that L2 does not hold and every block reads again; half of it where images and results do
// not stay near and push them away. Zen 3.
constexpr double kWeightBytes = 32;

// Where nothing is padded and rows are as long as the source's, all rows of a block are one: a tile may span them.
bool rows_follow(const ConvProblem& p, const Gather& g) {
  return p.layout == Layout::nchw && g.taps() == 1 && g.w().src == g.w().dst && g.w().src_step == 1 &&
         g.h().src == g.h().dst && g.h().src_step == 1 && g.d().src == g.d().dst && g.w().offset == 0 &&
         g.h().offset == 0 && g.d().offset == 0;
}

double store_cycles(const ConvProblem& p, const Gather& g, bool channels_on_vector) {
  const bool contiguous = g.w().dst_step == 1;  // neighbouring pixels, in NCHW
  if (p.layout == Layout::nhwc) return channels_on_vector ? kStoreVector : contiguous ? kStoreTransposed : kStoreScalar;
  if (!contiguous) return kStoreScalar;
  return channels_on_vector ? kStoreTransposed : kStoreVector;
}

// Cycles per element of depth of all tiles of one slice of results, divided into blocks as b says, the last ones lower
// and narrower; `channels` result channels.
double slice_cycles(const GatherBlocking& b, const Gather& g, int64_t max_rows, int64_t channels, int64_t lanes,
                    bool whole_block) {
  const auto block = [&](int64_t rows, int64_t cols) {
    if (rows == 0 || cols == 0) return 0.0;
    const int64_t pixels = whole_block ? rows * cols : cols;
    return static_cast<double>(whole_block ? 1 : rows) * (b.channels_on_vector
                                                              ? tile_cycles(pixels, max_rows, channels, lanes)
                                                              : tile_cycles(channels, max_rows, pixels, lanes));
  };
  const auto row = [&](int64_t rows) {
    return static_cast<double>(g.w().dst / b.block_cols) * block(rows, b.block_cols) +
           block(rows, g.w().dst % b.block_cols);
  };
  return static_cast<double>(g.h().dst / b.block_rows) * row(b.block_rows) + row(g.h().dst % b.block_rows);
}

// Whether a stage, where there is one, has the rows of all channels together (stage.h): pixels are read one by one.
bool stage_by_rows(const GatherBlocking& b) { return b.channels_on_vector && !b.panels; }

// Elements of the source of a block. Along the vector it takes half of L2, less where the next block comes from far
// away, and of images that fill more than a quarter halves are faster: they leave room to the weights and results that
// pass by. Down the rows it is read more slowly than the weights, which pass once a block: all but one panel of them.
int64_t block_room(const Machine& m, int64_t element_bytes, int64_t depth, bool far, bool channels_on_vector) {
  const int64_t near = m.l2_bytes / element_bytes;
  if (!channels_on_vector) return far ? near * 3 / 8 : near / 2;
  return std::max(near / 2, near - depth * 2 * m.lanes(element_bytes));
}

// Pixels of a block of a stage of rows: it takes three eighths of L2; what is asked for meanwhile and two
// panels of weights need room as well.
int64_t staged_pixels(const Gather& g, const Machine& m, int64_t element_bytes, int64_t channels) {
  const Walk &h = g.h(), &w = g.w();
  const int64_t room = m.l2_bytes * 3 / 8 / element_bytes / channels, row = (w.dst - 1) * w.src_step + w.taps;
  return room / row < h.taps ? 0 : ((room / row - h.taps) / h.src_step + 1) * w.dst;
}

// Rows of results whose panels fill that room, but no more than what leaves every thread a few blocks.
void choose_block(GatherBlocking& b, const Gather& g, const Machine& m, int64_t element_bytes, int64_t blocks_wanted,
                  bool whole_block, bool far) {
  const int64_t k_channels = ceil_div(b.k_blocks.count, b.k_blocks.parts);
  const int64_t depth = k_channels * std::max<int64_t>(1, b.panels ? g.taps() : 1);
  int64_t room = std::max<int64_t>(16, block_room(m, element_bytes, depth, far, b.channels_on_vector) / depth);
  if (stage_by_rows(b) && g.taps() > 1) room = std::max<int64_t>(16, staged_pixels(g, m, element_bytes, k_channels));
  const int64_t lanes = m.lanes(element_bytes), width = 2 * lanes;
  const bool shared = blocks_wanted > 1;
  if (!b.channels_on_vector && 2 * g.h().dst * g.w().dst > room) blocks_wanted = std::max<int64_t>(2, blocks_wanted);
  if (g.w().dst > room) {  // one row is too much: part of a row, in whole tiles
    b.block_rows = 1;
    b.block_cols = std::min(g.w().dst, std::max(width, room / width * width));
  } else {
    b.block_cols = g.w().dst;
    const int64_t most = std::min(g.h().dst, std::max<int64_t>(1, room / g.w().dst));
    int64_t best = 1;
    const int64_t for_threads = std::max<int64_t>(1, g.h().dst / std::max<int64_t>(1, blocks_wanted));
    // Of the heights that fit, the one that wastes fewest lanes or rows of its tiles; the taller of equals.
    double least = 0;
    int64_t tallest = std::min(most, std::max(for_threads, ceil_div(width, g.w().dst)));
    // The weights pass once for every block, also for a low last one.
    if (b.channels_on_vector) tallest = ceil_div(g.h().dst, ceil_div(g.h().dst, tallest));
    for (b.block_rows = 1; b.block_rows <= tallest; ++b.block_rows) {
      // Each block reads the rows its windows share with the next one again.
      const double halo = 1 + 0.02 * static_cast<double>(g.h().taps) / static_cast<double>(b.block_rows);
      double waste = slice_cycles(b, g, gemm_rows(m), width, lanes, whole_block) * halo;
      // Threads take as many blocks each: a low last one leaves its thread idle.
      if (shared)
        waste *= static_cast<double>(ceil_div(g.h().dst, b.block_rows) * b.block_rows) / static_cast<double>(g.h().dst);
      if (b.block_rows == 1 || waste <= least) least = waste, best = b.block_rows;
    }
    b.block_rows = best;
  }
  b.d_blocks = g.d().dst;
  b.h_blocks = ceil_div(g.h().dst, b.block_rows);
  b.w_blocks = ceil_div(g.w().dst, b.block_cols);
}

}  // namespace

int64_t gemm_rows(const Machine& m) { return m.isa == Isa::avx512 ? 14 : m.isa == Isa::neon ? 12 : 6; }

double tile_cycles(int64_t rows, int64_t max_rows, int64_t cols, int64_t lanes) {
  const auto tile = [](double r, double v) { return std::max({r * v / 2, 4.0, (r + v) / 2}); };
  const auto column = [&](double v) {
    const int64_t tiles = ceil_div(rows, max_rows), tall = rows % tiles;
    const double height = static_cast<double>(rows / tiles);
    return static_cast<double>(tall) * tile(height + 1, v) + static_cast<double>(tiles - tall) * tile(height, v);
  };
  const int64_t pairs = cols / (2 * lanes), rest = cols % (2 * lanes);
  return static_cast<double>(pairs) * column(2) + (rest == 0 ? 0 : column(rest <= lanes ? 1 : 2));
}

bool far_away(const ConvProblem& p, const Machine& m) {
  const int64_t elements = p.batch * (p.in_c * p.in_pixels() + p.out_c * p.out_pixels());
  return elements * static_cast<int64_t>(size_of(p.dtype)) > 8 * m.l2_bytes;
}

double jump_cycles(const ConvProblem& p, const Gather& g, const Machine& m) {
  // 64 translations on Zen 3 as on most others; results and weights take some. Pages of 4 KB; several taps share one.
  constexpr int64_t kPages = 56, kPageBytes = 4096;
  const int64_t channel = g.d().src * g.h().src * g.w().src * static_cast<int64_t>(size_of(p.dtype));
  const int64_t pages = g.src_c * std::min(channel, kPageBytes) / kPageBytes;
  if (far_away(p, m)) return kJumpFar;
  // Channels on one page need one translation.
  const double own = static_cast<double>(std::min(channel, kPageBytes)) / static_cast<double>(kPageBytes);
  return g.taps() == 1 && pages > kPages ? kJump + (kJumpFar - kJump) * own : kJump;
}

GatherBlocking block_gather(const ConvProblem& p, const Gather& g, const Machine& m, int threads, PixelRead read) {
  const int64_t bytes = static_cast<int64_t>(size_of(p.dtype)), lanes = m.lanes(bytes), max_rows = gemm_rows(m);
  const int64_t whole = g.depth();
  const auto passes = [&](bool panels, bool channels_on_vector) {
    const bool down = channels_on_vector && (rows_follow(p, g) || (!panels && g.taps() > 1));
    const int64_t most = down ? kDepthDown : kDepth;
    // A little above is better done in one pass than in two.
    return whole <= most + most / 2 ? 1 : std::min(g.src_c, ceil_div(whole, most));
  };

  // Threads share out the pixels where the source is larger than the weights, else the channels: what is larger is
  // then read by one of them only.
  const int64_t source = p.batch * p.groups * g.src_c * g.d().src * g.h().src * g.w().src;
  const int64_t weights = p.groups * g.src_c * g.dst_c * g.taps();
  const bool divide_pixels = threads > 1 && source > weights;
  const int64_t blocks_wanted = divide_pixels ? ceil_div(2 * threads, std::max<int64_t>(1, p.batch) * p.groups) : 1;

  const bool straight = rows_follow(p, g);
  double least = -1;
  GatherBlocking best;
  const auto compare = [&](const ConvProblem& problem, bool panels, bool channels_on_vector, int64_t wanted) {
    GatherBlocking b;
    b.panels = panels;
    b.channels_on_vector = channels_on_vector;
    b.by_taps = stage_by_rows(b);
    b.k_blocks = {g.src_c, passes(panels, channels_on_vector)};
    b.spread = panels && spreads(g, p.layout, g.src_c / b.k_blocks.parts);
    choose_block(b, g, m, bytes, wanted, panels || straight, straight && far_away(problem, m));
    b.channel_tiles = {g.dst_c, ceil_div(g.dst_c, channels_on_vector ? 2 * lanes : max_rows)};
    const double cycles = gather_cycles(problem, g, b, m);
    if (least < 0 || cycles < least) least = cycles, best = std::move(b);
  };
  // What lies along the vector decides the order of sums: that goes by one image and one thread. Whether there are
  // panels and how blocks are divided then goes by all of them.
  ConvProblem one = p;
  one.batch = std::min<int64_t>(p.batch, 1);
  const auto readable = [read](bool panels) {
    return read == PixelRead::either || panels == (read == PixelRead::panels);
  };
  for (const bool panels : {false, true})
    for (const bool channels_on_vector : {false, true})
      if (readable(panels)) compare(one, panels, channels_on_vector, 1);
  const bool channels_on_vector = best.channels_on_vector;
  least = -1;
  for (const bool panels : {false, true})
    if (readable(panels)) compare(p, panels, channels_on_vector, blocks_wanted);
  GatherBlocking b = std::move(best);
  b.stage = make_stage(g, p.layout, b.block_rows, b.block_cols, true,
                       stage_by_rows(b) ? ceil_div(b.k_blocks.count, b.k_blocks.parts) : 0);
  // Channels are divided where images, groups and blocks alone leave the threads unevenly loaded.
  // The fewest parts that give each as many: what several of them pack for themselves is one block at the seam.
  const int64_t units = std::max<int64_t>(1, p.batch) * p.groups * b.blocks();
  if (threads > 1 && units < 8 * threads && units % threads != 0)
    b.c_splits = std::min(b.channel_tiles.parts, threads / std::gcd<int64_t>(units, threads));
  const int64_t panel_bytes = (b.block_rows * b.block_cols + 2 * lanes) * whole * bytes;
  b.keeps_passes = b.panels && b.c_splits > 1 && b.k_blocks.parts > 1 &&
                   panel_bytes <= static_cast<int64_t>(kThreadScratchBytes) / 2;
  return b;
}

// The index-th block of a slice of results, depth by depth, row by row.
static PixelBlock block_at(const Gather& g, const GatherBlocking& b, int64_t index) {
  PixelBlock block;
  block.d = index / b.w_blocks / b.h_blocks;
  block.h0 = index / b.w_blocks % b.h_blocks * b.block_rows;
  block.h1 = std::min(g.h().dst, block.h0 + b.block_rows);
  block.w0 = index % b.w_blocks * b.block_cols;
  block.w1 = std::min(g.w().dst, block.w0 + b.block_cols);
  return block;
}

Work work_of(const std::vector<Gather>& gathers, const Blocking& blocking, int64_t groups, int64_t item,
             size_t together) {
  Work work{};
  work.gather = gathers.size() - 1;
  while (blocking.gathers[work.gather * together].first_item > item) --work.gather;
  const GatherBlocking& b = blocking.gathers[work.gather * together];
  int64_t rest = item - b.first_item;
  work.split = rest % b.c_splits, rest /= b.c_splits;
  work.block_id = b.first_item + rest;
  work.block = block_at(gathers[work.gather], b, rest % b.blocks()), rest /= b.blocks();
  work.group = rest % groups, work.image = rest / groups;
  return work;
}

// Cycles per vector of a panel that spread.h writes, in so many passes over the channels.
static double spread_vector(const Gather& g, double passes) {
  return (g.w().src_step == 1 ? kPackVector : kSpreadStrided) + kListMove * passes / static_cast<double>(g.src_c);
}

double gather_cycles(const ConvProblem& p, const Gather& g, const GatherBlocking& b, const Machine& m) {
  const int64_t bytes = static_cast<int64_t>(size_of(p.dtype)), lanes = m.lanes(bytes), max_rows = gemm_rows(m);
  const double depth = static_cast<double>(g.depth()), all_pixels = static_cast<double>(g.pixels());
  const double passes = static_cast<double>(b.k_blocks.parts), results = all_pixels * static_cast<double>(g.dst_c);
  const bool whole_block = b.panels || rows_follow(p, g);
  double cycles = static_cast<double>(g.d().dst) * slice_cycles(b, g, max_rows, g.dst_c, lanes, whole_block) * depth;
  cycles += results * (store_cycles(p, g, b.channels_on_vector) * passes + 2 * kStoreVector * (passes - 1));
  const double vectors = all_pixels / static_cast<double>(lanes);
  const int64_t rows = std::min(b.block_rows, g.h().dst);
  const int64_t pixels = whole_block ? rows * b.block_cols : b.block_cols;
  const int64_t down = b.channels_on_vector ? pixels : g.dst_c, along = b.channels_on_vector ? g.dst_c : pixels;
  const double runs = static_cast<double>(b.blocks() * (whole_block ? 1 : rows)) * passes *
                      static_cast<double>(ceil_div(down, max_rows) * ceil_div(along, 2 * lanes));
  if (b.panels) {
    cycles += cycles * kPanelShare + vectors * depth * (b.spread ? spread_vector(g, passes) : kPackVector);
  } else {
    cycles += runs * static_cast<double>(g.taps()) * kSegment;
    const int64_t read = g.src_c * (rows * g.h().src_step + g.h().taps) * g.w().src * bytes;
    const bool walks_on = stage_by_rows(b) && !lies_ready(g, p.layout);
    const double jump = walks_on ? kWalkOn : jump_cycles(p, g, m);
    if (read > m.l1_bytes && g.dst_c > max_rows) cycles += runs / passes * depth * jump;
    const int64_t weights = g.depth() * g.dst_c * bytes;
    if (walks_on && weights > m.l2_bytes)
      cycles += static_cast<double>(b.blocks() * weights * (far_away(p, m) ? 2 : 1)) / kWeightBytes;
    // At the end of the source a vector would reach behind it, and is packed.
    if (!b.channels_on_vector && rows_follow(p, g) && g.pixels() % lanes != 0) cycles += depth * kPackVector;
  }
  cycles += runs * kTile;
  if (b.spread || (!b.panels && rows_follow(p, g))) return cycles;  // read where it lies
  return cycles + stage_cycles(g, p.layout, lanes, stage_by_rows(b));
}

double stage_cycles(const Gather& g, Layout layout, int64_t lanes, bool by_rows) {
  const int64_t step = g.w().src_step, phases = by_rows ? 1 : std::min(step, g.w().taps);
  const double rows = static_cast<double>(g.src_c * g.d().src * g.h().src);
  const double vectors = rows * static_cast<double>(g.w().src) / static_cast<double>(lanes);
  if (layout == Layout::nchw && !by_rows && read_once(g.w())) return vectors * kStageDivided + rows * kStageRow;
  const bool by_elements = phases > 1 && step != 2 && step != 4 && layout == Layout::nchw;
  const double vector = by_elements ? kStageElement * static_cast<double>(lanes) : kStageVector;
  return vectors * vector * (layout == Layout::nhwc ? 2 : 1) +
         rows * (phases == 1 ? kStageRow : kStagePhase * static_cast<double>(phases));
}

}  // namespace fastconv
