#include "weight_gradient_nest.h"

#include <algorithm>
#include <cstring>

#include "../buffer.h"

namespace fastconv {
namespace {

// Pixels summed between two updates of the result: enough that adding up the lanes of a tile (about 70 instructions)
// stays below a tenth of its products, and that a tile of six columns stays in L1.
constexpr int64_t kPanelPixels = 768;
// Parts into which the sum may be divided where channels and groups alone give threads too little to share, and the
// most memory their copies of the result may take.
constexpr int64_t kChunks = 16;
constexpr int64_t kChunkBytes = int64_t{16} << 20;

int64_t row_pitch(const WeightGradientBlocking& b) { return b.panel_pixels + kPackSlack; }
int64_t rows_per_block(const ConvPlan& plan) {  // output channels whose rows stay in half of L2
  const int64_t bytes = row_pitch(plan.blocking.weight_gradient) * static_cast<int64_t>(size_of(plan.problem.dtype));
  return std::clamp<int64_t>(plan.machine.l2_bytes / 2 / bytes, 4, plan.problem.out_c_group());
}

template <class T>
struct Scratch {
  T *stage, *columns, *rows;
  PixelRun* runs;
  Scratch(Carver& carver, const ConvPlan& plan) {
    const WeightGradientBlocking& b = plan.blocking.weight_gradient;
    const int64_t channels = ceil_div(b.channel_blocks.count, b.channel_blocks.parts);
    stage = carver.take<T>(b.stage.in_place ? 0 : b.stage.elements(channels));
    columns = carver.take<T>(channels * plan.problem.taps() * row_pitch(b) + kPackSlack);
    rows = carver.take<T>(rows_per_block(plan) * row_pitch(b) + kPackSlack);
    runs = carver.take<PixelRun>(b.block_rows + 1);
  }
};

template <class T>
class WeightGradientRun {
 public:
  WeightGradientRun(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace)
      : plan_(plan),
        p_(plan.problem),
        g_(plan.gathers[0]),
        b_(plan.blocking.weight_gradient),
        pack_(typed<T>(kernels_for(plan.machine.isa).pack)),
        dot_(typed<T>(kernels_for(plan.machine.isa).dot)),
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
    const int64_t channel_block = item % b_.channel_blocks.parts;
    const int64_t group = item / b_.channel_blocks.parts % p_.groups;
    const int64_t chunk = item / b_.channel_blocks.parts / p_.groups;
    const int64_t c0 = b_.channel_blocks.begin(channel_block), channels = b_.channel_blocks.size(channel_block);
    T* const dw = partial_ + chunk * p_.weight_elements() + group * p_.out_c_group() * filter() + c0 * p_.taps();
    for (int64_t o = 0; o < p_.out_c_group(); ++o)
      std::memset(dw + o * filter(), 0, static_cast<size_t>(channels * p_.taps()) * sizeof(T));

    const int64_t end = b_.chunks.begin(chunk + 1);
    for (int64_t first = b_.chunks.begin(chunk); first < end && !interrupt.stop_here(thread);) {
      int64_t last = first, pixels = 0;
      while (last < end && (last == first || pixels + block_at(last).pixels() <= b_.panel_pixels))
        pixels += block_at(last++).pixels();
      add_products(first, last, pixels, group, c0, channels, dw, scratch_[thread]);
      first = last;
    }
  }

  void sum_chunks(int64_t element0, int64_t element1) {
    const int64_t size = p_.weight_elements();
    std::memcpy(w_ + element0, partial_ + element0, static_cast<size_t>(element1 - element0) * sizeof(T));
    for (int64_t chunk = 1; chunk < b_.chunks.parts; ++chunk)
      for (int64_t e = element0; e < element1; ++e) w_[e] += partial_[chunk * size + e];
  }

 private:
  int64_t filter() const { return p_.in_c_group() * p_.taps(); }
  bool nhwc() const { return p_.layout == Layout::nhwc; }
  int64_t blocks_per_image() const { return b_.d_blocks * b_.h_blocks * b_.w_blocks; }

  PixelBlock block_at(int64_t index) const {
    const int64_t w = index % b_.w_blocks, h = index / b_.w_blocks % b_.h_blocks;
    PixelBlock block;
    block.d = index / b_.w_blocks / b_.h_blocks % b_.d_blocks;
    block.h0 = h * b_.block_rows;
    block.h1 = std::min(p_.h().out, block.h0 + b_.block_rows);
    block.w0 = w * b_.block_cols;
    block.w1 = std::min(p_.w().out, block.w0 + b_.block_cols);
    return block;
  }

  // dw += rows x columns over the pixels of blocks [first, last).
  void add_products(int64_t first, int64_t last, int64_t pixels, int64_t group, int64_t c0, int64_t channels, T* dw,
                    Scratch<T>& s) {
    const int64_t pitch = row_pitch(b_), column_count = channels * p_.taps();
    const int64_t depth = ceil_div(pixels, dot_.lanes) * dot_.lanes;
    int64_t lane = 0;
    for (int64_t i = first; i < last; ++i) {
      const PixelBlock block = block_at(i);
      pack_columns(block, i / blocks_per_image(), group, c0, channels, s.columns + lane, s);
      lane += block.pixels();
    }
    clear_tail(s.columns, column_count, pixels, depth);
    const Split row_blocks{p_.out_c_group(), ceil_div(p_.out_c_group(), rows_per_block(plan_))};
    for (int64_t rb = 0; rb < row_blocks.parts; ++rb) {
      const int64_t o0 = row_blocks.begin(rb), count = row_blocks.size(rb);
      lane = 0;
      for (int64_t i = first; i < last; ++i) {
        const PixelBlock block = block_at(i);
        pack_rows(block, i / blocks_per_image(), group * p_.out_c_group() + o0, count, s.rows + lane, s);
        lane += block.pixels();
      }
      clear_tail(s.rows, count, pixels, depth);
      const Split col_tiles{column_count, ceil_div(column_count, dot_.max_cols)};
      const Split row_tiles{count, ceil_div(count, dot_.max_rows)};
      for (int64_t j = 0; j < col_tiles.parts; ++j)
        for (int64_t i = 0; i < row_tiles.parts; ++i)
          dot_.run({s.rows + row_tiles.begin(i) * pitch, pitch, s.columns + col_tiles.begin(j) * pitch, pitch, depth,
                    dw + (o0 + row_tiles.begin(i)) * filter() + col_tiles.begin(j), filter()},
                   row_tiles.size(i), col_tiles.size(j));
    }
  }

  void clear_tail(T* panel, int64_t rows, int64_t pixels, int64_t depth) const {
    if (pixels == depth) return;
    for (int64_t r = 0; r < rows; ++r)
      std::memset(panel + r * row_pitch(b_) + pixels, 0, static_cast<size_t>(depth - pixels) * sizeof(T));
  }

  void pack_columns(const PixelBlock& block, int64_t image, int64_t group, int64_t c0, int64_t channels, T* panel,
                    Scratch<T>& s) const {
    const int64_t pixels = p_.in_pixels(), channel = group * p_.in_c_group() + c0;
    Source<T> source{x_ + image * p_.in_c * pixels + channel * (nhwc() ? 1 : pixels), pixels, p_.h().in * p_.w().in,
                     p_.w().in, 1};
    if (nhwc()) source = {source.data, 1, source.d * p_.in_c, source.h * p_.in_c, p_.in_c};
    const T* base = source.data;
    if (!b_.stage.in_place) {
      fill_stage(b_.stage, g_, source, block, channels, pack_, s.stage);
      base = s.stage;
    }
    int64_t runs = 0, lane = 0;
    for (int64_t jh = block.h0; jh < block.h1; ++jh, lane += block.cols()) {
      const int64_t from = b_.stage.row_offset(g_, block, jh);
      if (runs && s.runs[runs - 1].from + s.runs[runs - 1].count == from)
        s.runs[runs - 1].count += block.cols();
      else
        s.runs[runs++] = {from, lane, block.cols()};
    }
    pack_.pixels({panel, row_pitch(b_), 0, base, channels, b_.stage.plane, b_.stage.tap_offset.data(), p_.taps(),
                  s.runs, runs, b_.stage.in_place});
  }

  void pack_rows(const PixelBlock& block, int64_t image, int64_t channel, int64_t channels, T* panel,
                 Scratch<T>& s) const {
    const int64_t pixels = p_.out_pixels();
    int64_t lane = 0;
    for (int64_t jh = block.h0; jh < block.h1; ++jh) {
      const int64_t from = (block.d * p_.h().out + jh) * p_.w().out + block.w0;
      // Whole rows follow each other.
      const int64_t count = block.cols() == p_.w().out ? block.pixels() : block.cols();
      if (nhwc()) {
        const T* const first = y_ + (image * pixels + from) * p_.out_c + channel;
        pack_.transpose({panel + lane, row_pitch(b_), count, first, p_.out_c, count, channels});
      } else {
        s.runs[0] = {from, lane, count};
        const int64_t no_offset = 0;
        pack_.pixels({panel, row_pitch(b_), 0, y_ + (image * p_.out_c + channel) * pixels, channels, pixels, &no_offset,
                      1, s.runs, 1, true});
      }
      if (count != block.cols()) break;
      lane += count;
    }
  }

  const ConvPlan& plan_;
  const ConvProblem& p_;
  const Gather& g_;
  const WeightGradientBlocking& b_;
  const PackKernel<T>& pack_;
  const DotKernel<T>& dot_;
  const T *x_, *y_;
  T *w_, *partial_;
  std::vector<Scratch<T>> scratch_;
};

}  // namespace

void prepare_weight_gradient(ConvPlan& plan) {
  const ConvProblem& p = plan.problem;
  WeightGradientBlocking& b = plan.blocking.weight_gradient;
  const int64_t bytes = static_cast<int64_t>(size_of(p.dtype));
  b.block_cols = std::min(p.w().out, kPanelPixels);
  b.block_rows = std::clamp<int64_t>(kPanelPixels / b.block_cols, 1, p.h().out);
  b.d_blocks = p.d().out;
  b.h_blocks = ceil_div(p.h().out, b.block_rows);
  b.w_blocks = ceil_div(p.w().out, b.block_cols);
  b.panel_pixels = kPanelPixels;
  b.stage = make_stage(plan.gathers[0], p.layout, b.block_rows, b.block_cols);
  const int64_t column_bytes = p.taps() * row_pitch(b) * bytes;
  const int64_t channels = std::clamp<int64_t>(plan.machine.l2_bytes / 2 / column_bytes, 1, p.in_c_group());
  b.channel_blocks = {p.in_c_group(), ceil_div(p.in_c_group(), channels)};

  const int64_t blocks = p.batch * b.d_blocks * b.h_blocks * b.w_blocks;
  const int64_t by_memory = kChunkBytes / std::max<int64_t>(1, p.weight_elements() * bytes);
  const int64_t wanted = kChunks / (p.groups * b.channel_blocks.parts);
  // A chunk is worth its copy of the result when it sums a few panels.
  const int64_t panels = ceil_div(p.batch * p.out_pixels(), 2 * kPanelPixels);
  b.chunks = {blocks, std::clamp<int64_t>(std::min({wanted, by_memory, panels}), 1, std::max<int64_t>(1, blocks))};

  const auto measure = [&](auto zero) {
    Carver carver(nullptr);
    const Scratch<decltype(zero)> scratch(carver, plan);
    return carver.used();
  };
  plan.blocking.thread_bytes = visit_dtype(p.dtype, measure);
  plan.workspace_bytes =
      (b.chunks.parts > 1 ? align_up(static_cast<size_t>(b.chunks.parts * p.weight_elements() * bytes)) : 0) +
      static_cast<size_t>(plan.threads) * plan.blocking.thread_bytes;
}

double weight_gradient_cost(const ConvProblem& p, const Machine& machine, int threads) {
  // Two multiply-adds a cycle and a third on top to add up lanes, and the columns moved twice; small tiles are not
  // told apart. A sum over less than a panel of pixels adds up its lanes all the same, at some cycles a weight.
  constexpr double kAddLanes = 8;
  const double lanes = static_cast<double>(machine.lanes(static_cast<int64_t>(size_of(p.dtype))));
  const double pixels = static_cast<double>(p.out_pixels()), of_block = std::min<double>(pixels, kPanelPixels);
  const double sums = static_cast<double>(p.batch * p.weight_elements()) * pixels / std::max(of_block, 1.0);
  const double products = p.flops() / 2 / lanes * (0.67 + 4.0 / static_cast<double>(p.out_c_group()));
  return (products + sums * kAddLanes * (1 - of_block / kPanelPixels)) / threads;
}

void run_weight_gradient(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace,
                         Interrupt& interrupt) {
  visit_dtype(plan.problem.dtype, [&](auto zero) {
    WeightGradientRun<decltype(zero)> run(plan, operands, workspace);
    const WeightGradientBlocking& b = plan.blocking.weight_gradient;
    parallel_for(b.chunks.parts * plan.problem.groups * b.channel_blocks.parts, plan.threads, interrupt,
                 [&](int64_t item, int thread) { run.item(item, thread, interrupt); });
    if (b.chunks.parts == 1) return;
    const Split parts{plan.problem.weight_elements(), plan.threads};
    parallel_for(parts.parts, plan.threads, interrupt,
                 [&](int64_t part, int) { run.sum_chunks(parts.begin(part), parts.begin(part + 1)); });
  });
}

}  // namespace fastconv
