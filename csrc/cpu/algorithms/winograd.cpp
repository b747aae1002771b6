// winograd: convolutions by Winograd's minimal filtering.
//
//   F(3x3), F(5x5), F(7x7) for 2x2;  F(2x2), F(4x4), F(6x6) for 3x3;  F(3x3), F(5x5) for 4x4;  F(2x2), F(4x4) for 5x5;
//   F(2x2) for 7x7;  the 1-D forms of the same for 1x3, 3x1, 1x5, 1x7 and so on, dilated or not; with a stride, those
//   of the taps that a phase of it has; volumes slice by slice, their taps along the depth summed as channels are. For
//   the loop nest see winograd.h, for that of the weight gradient winograd_weights.cpp.
//
// Two rows, as a form may not depend on the batch of a call: `winograd` takes what costs least for one image,
// `winograd_batch` what does for many, where that is another form. They differ on small images, which give a longer
// form few tiles to multiply with its many weights.
//
// It rounds worse than a plain sum: differences of inputs are multiplied with differences of filters, and large
// intermediate values cancel. The row is not exact, and float64 is refused: who computes in it wants its digits.
#include "winograd.h"

#include <algorithm>
#include <cmath>

#include "../buffer.h"

namespace fastconv {
namespace {

bool identity(const Walk& walk) {
  return walk.taps == 1 && walk.src_step == 1 && walk.offset == 0 && walk.src == walk.dst && walk.dst_step == 1 &&
         walk.dst == walk.dst_full;
}

// The result is written whole, whatever it reads.
bool whole(const Walk& walk) { return walk.dst_step == 1 && walk.dst == walk.dst_full; }

bool has_forms(const Walk& h, const Walk& w) {
  for (const int alpha : {4, 6, 8}) {
    const int form_h = winograd_form(winograd_taps(h), alpha), form_w = winograd_form(winograd_taps(w), alpha);
    if (form_h >= 0 && form_w >= 0 && form_h + form_w > 0 && winograd_pair(form_h, form_w)) return true;
  }
  return false;
}

// The batches for which forms are chosen. Many: beyond it nothing changes.
constexpr int64_t kOneImage = 1, kManyImages = 64;
// Source channels summed in registers: their weights fill a third of L1, and the rounding of a sum, which grows with
// its length, stays that of so many terms.
constexpr int64_t kDepth = 128;

WinogradBlocking block_tiles(const ConvProblem& p, const Gather& g, const Machine& m, int threads, int form_h,
                             int form_w) {
  const GemmKernel<float>& gemm = kernels_for(m.isa).gemm.f32;
  const int64_t lanes = gemm.lanes, width = gemm.width();
  const WinogradForm &h = kWinogradForms[form_h], &w = kWinogradForms[form_w];
  WinogradBlocking b;
  b.form_h = form_h, b.form_w = form_w;
  b.positions = h.alpha * w.alpha;
  b.dilation_h = winograd_dilation(g.h()), b.dilation_w = winograd_dilation(g.w());
  b.stride_h = g.h().src_step, b.stride_w = g.w().src_step;
  b.phases_h = winograd_phases(g.h()), b.phases_w = winograd_phases(g.w());
  b.tiles_h = ceil_div(ceil_div(g.h().dst, b.dilation_h), h.results);
  b.tiles_w = ceil_div(ceil_div(g.w().dst, b.dilation_w), w.results);
  const int64_t terms = g.src_c * g.d().taps * b.phases_h * b.phases_w;
  b.depths = {terms, ceil_div(terms, kDepth)};
  b.panels = ceil_div(g.dst_c, width);
  const int64_t last = g.dst_c - (b.panels - 1) * width;
  b.packed_group = b.positions * ((b.panels - 1) * winograd_pitch(terms * width) +
                                  winograd_pitch(terms * (last <= lanes ? lanes : width)));
  // Weights that a call does not keep packed are transformed once per block: the fewer the better.
  const bool large = static_cast<size_t>(p.groups * b.packed_group) * sizeof(float) > kPackedScratchBytes;
  // Whole vectors of the last slice, or of the last phases of the columns that share them, are written.
  const auto beyond = [lanes](int64_t count) { return ceil_div(count, lanes) * lanes - count; };
  b.tile_step = winograd_pitch(terms + std::max(beyond(g.src_c), beyond(b.phases_w * g.src_c)));

  // Transformed input and the sums of a panel in three quarters of L2; where weights come from L3 or memory, tiles
  // enough to hide that.
  const int64_t element = static_cast<int64_t>(sizeof(float));
  const int64_t input_bytes = b.positions * b.tile_step * element,
                sum_bytes = b.positions * winograd_pitch(width) * element;
  const int64_t least = (b.packed_group * element > m.l2_bytes / 2 ? 4 : 1) * gemm.max_rows;
  const int64_t most = std::max<int64_t>(1, static_cast<int64_t>(kThreadScratchBytes) / 2 / input_bytes);
  int64_t tiles = large ? most : std::min(most, std::max(least, m.l2_bytes * 3 / 4 / (input_bytes + sum_bytes)));
  const int64_t rows = p.batch * g.d().dst * b.dilation_h * b.tiles_h;
  // Where that leaves too few blocks, threads share the channels: all would stream all weights otherwise.
  if (threads > 1 && !large)
    tiles = std::min(tiles, std::max<int64_t>(least, rows * b.tiles_w * b.dilation_w / (2 * threads)));
  b.phases = {b.dilation_w, ceil_div(b.dilation_w, tiles)};
  const int64_t phases = ceil_div(b.dilation_w, b.phases.parts);
  b.cols = {b.tiles_w, ceil_div(b.tiles_w, tiles / phases)};
  const int64_t cols = ceil_div(b.tiles_w, b.cols.parts) * phases, block_rows = std::max<int64_t>(1, tiles / cols);
  b.rows = {rows, std::max<int64_t>(1, ceil_div(rows, block_rows))};
  b.block_tiles = cols * ceil_div(rows, b.rows.parts);
  b.position_step = winograd_pitch(b.block_tiles * b.tile_step);

  const int64_t sums = m.l2_bytes / 4 / std::max<int64_t>(1, b.block_tiles * sum_bytes);
  b.chunk_panels = std::clamp<int64_t>(sums, 1, b.panels);
  b.sum_step = winograd_pitch(b.chunk_panels * width);
  b.sum_position = winograd_pitch(b.block_tiles * b.sum_step);
  const int64_t units = p.groups * b.blocks();
  if (threads > 1 && units < 8 * threads && units % threads != 0)
    b.c_splits = std::min(b.chunks(), ceil_div(8 * threads, units));
  return b;
}

// Operations to transform a line back to its results.
double line_out(const WinogradForm& f) { return f.alpha == 1 ? 0 : (f.alpha / 2 - 1) * (2 + f.results) + 1.0; }

// By how much tiles are slower than their multiply-adds: fitted to 33 layers on one thread of a Zen 5 with AVX-512, 1
// to 512 channels, 7x7 to 224x224, all forms. 27 layers, Zen 3: cycles per byte out of L2 and L3 by which the products
// take longer, and per byte out of memory, which the products are hidden behind.
constexpr double kProducts = 1.1, kFromL2 = 0.05, kFromL3 = 0.07, kFromMemory = 0.2;
// Cycles per call of a tile; by how much transforms, and moves of pixels, are slower than their operations. With
// AVX-512 from the layers of the Zen 5. Others: each kernel's share of the samples of the clock in nine layers, 2 to
// 256 channels, 13x13 to 256x256, Zen 3 with AVX2.
struct Prices {
  double call, transform;
};
constexpr Prices kWide{30, 1.3}, kNarrow{38, 1};
// Cycles before the first tile: a volume of 1x2x4x6x1, Zen 3.
constexpr double kBegin = 2000;
// Cycles per vector of transformed filters, in a call that does not find them prepared: six layers, Zen 3, AVX2.
constexpr double kTransformFilter = 6;
// Vectors moved per vector of pixels that is staged, and stored. Where all images, or results, take so many times L2,
// they come from far away, or go there: cycles per byte, from those samples.
constexpr double kStagePixel = 3, kStorePixel = 4, kFarPixel = 0.375;
constexpr int64_t kNear = 4;
// Cycles per result, channels last, whose channels end with part of a vector. One layer, Zen 3.
constexpr double kStorePart = 40;

// Cycles to move a vector of pixels between the stage and an operand of so many elements.
double move_cycles(int64_t elements, double vectors_moved, const Machine& m) {
  const bool far = elements * static_cast<int64_t>(sizeof(float)) > kNear * m.l2_bytes;
  return far ? kFarPixel * static_cast<double>(m.vector_bytes())
             : vectors_moved * (m.isa == Isa::avx512 ? kWide : kNarrow).transform;
}

// The share of the products with an axis's phases that winograd_used leaves.
double used_share(const Walk& walk, const WinogradForm& form) {
  const double with_last_tap = static_cast<double>(walk.taps - (winograd_taps(walk) - 1) * walk.src_step);
  return form.alpha == 1 ? 1 : 1 - (1 - with_last_tap / static_cast<double>(winograd_phases(walk))) / form.alpha;
}

// Cycles per group for all images on one thread.
double block_cycles(const ConvProblem& p, const Gather& g, const Machine& m, const WinogradBlocking& b) {
  const GemmKernel<float>& gemm = kernels_for(m.isa).gemm.f32;
  const WinogradForm &h = kWinogradForms[b.form_h], &w = kWinogradForms[b.form_w];
  const double blocks = static_cast<double>(b.blocks()), positions = static_cast<double>(b.positions);
  const double tiles = static_cast<double>(b.rows.count * b.tiles_w * b.dilation_w), results = h.results * w.results;
  // A vector has the channels of several phases of the columns where these are fewer than lanes.
  const bool dense = b.phases_w > 1 && g.src_c < gemm.lanes && p.layout == Layout::nchw;
  const int64_t row_vectors =
      dense ? ceil_div(b.phases_w * g.src_c, gemm.lanes) : b.phases_w * ceil_div(g.src_c, gemm.lanes);
  const double in_vectors = tiles * static_cast<double>(row_vectors * g.d().taps * b.phases_h);
  const double out_vectors = tiles * static_cast<double>(ceil_div(g.dst_c, gemm.lanes));
  const int64_t block = std::max<int64_t>(1, static_cast<int64_t>(std::llround(tiles / blocks)));
  const double tile = tile_cycles(block, gemm.max_rows, g.dst_c, gemm.lanes) * static_cast<double>(b.depths.count) *
                      used_share(g.h(), h) * used_share(g.w(), w);
  const double calls = static_cast<double>(b.panels * ceil_div(block, gemm.max_rows) * b.depths.parts);
  const Prices& prices = m.isa == Isa::avx512 ? kWide : kNarrow;
  const double products = blocks * positions * (tile * kProducts + calls * prices.call);
  const double in_lines = (w.alpha * winograd_line_in(h.alpha) + h.alpha * winograd_line_in(w.alpha)) / 2;
  const double out_lines = (w.alpha * line_out(h) + h.results * line_out(w)) / 2;
  const double transforms = in_vectors * (in_lines + 2 * positions) + out_vectors * (out_lines + 2 * positions);
  const int64_t images = p.batch * p.groups;
  const double read = move_cycles(images * g.src_c * g.d().src * g.h().src * g.w().src, kStagePixel, m);
  const double written = move_cycles(images * g.dst_c * g.pixels(), kStorePixel, m);
  const double moves = (in_vectors * read + out_vectors * written) * results;
  const int64_t element = static_cast<int64_t>(sizeof(float)), weight_bytes = b.packed_group * element;
  const double weights = blocks * static_cast<double>(weight_bytes);
  const bool far = weight_bytes > m.l3_bytes * 4 / 10;  // others use L3 too
  // The tiles of a position, read once per panel, and the weights are only in part hidden behind the products.
  const int64_t tile_bytes = block * b.tile_step * element;
  const double again =
      tile_bytes > m.l1_bytes * 3 / 4 ? blocks * positions * static_cast<double>(tile_bytes * b.panels) : 0;
  const double reads = again * kFromL2 + (weight_bytes > m.l2_bytes ? weights * kFromL3 : 0);
  return transforms * prices.transform + moves + std::max(products + reads, far ? weights * kFromMemory : 0);
}

// The form that costs least for so many images; the same for any batch and any number of threads.
std::pair<int, int> choose_forms(ConvProblem p, const Gather& g, const Machine& m, int64_t images) {
  p.batch = images;
  std::pair<int, int> best{0, 0};
  double least = 0;
  for (const int alpha : {4, 6, 8}) {
    const int h = winograd_form(winograd_taps(g.h()), alpha), w = winograd_form(winograd_taps(g.w()), alpha);
    if (h < 0 || w < 0 || !winograd_pair(h, w)) continue;
    const double cycles = block_cycles(p, g, m, block_tiles(p, g, m, 1, h, w));
    if (best == std::pair{0, 0} || cycles < least * (alpha == 8 ? kWinogradLongFormGain : 1))
      least = cycles, best = {h, w};
  }
  return best;
}

double cost(const ConvProblem& p, const Machine& machine, int threads, int64_t images) {
  if (p.direction == Direction::weight_gradient) return winograd_weights_cost(p, machine) / threads;
  const Gather g = make_gathers(p)[0];
  const auto [h, w] = choose_forms(p, g, machine, images);
  double cycles = block_cycles(p, g, machine, block_tiles(p, g, machine, 1, h, w));
  if (p.layout == Layout::nhwc && g.dst_c % machine.lanes(sizeof(float)) != 0)
    cycles += kStorePart * static_cast<double>(p.batch * g.pixels());
  return kBegin + cycles * static_cast<double>(p.groups) / threads;
}

double pack_cost(const ConvProblem& p, const Machine& machine, int64_t images) {
  if (p.direction == Direction::weight_gradient) return 0;
  const Gather g = make_gathers(p)[0];
  const auto [h, w] = choose_forms(p, g, machine, images);
  const int64_t elements = block_tiles(p, g, machine, 1, h, w).packed_group * p.groups;
  return static_cast<double>(elements / machine.lanes(sizeof(float))) * kTransformFilter;
}

void prepare(ConvPlan& plan, int64_t images) {
  if (plan.problem.direction == Direction::weight_gradient) return prepare_winograd_weights(plan);
  const ConvProblem& p = plan.problem;
  const Gather& g = plan.gathers[0];
  const auto [h, w] = choose_forms(p, g, plan.machine, images);
  WinogradBlocking& b = plan.blocking.winograd;
  b = block_tiles(p, g, plan.machine, plan.threads, h, w);
  plan.blocking.items = p.groups * b.blocks() * b.c_splits;
  if (p.batch == 0) plan.blocking.items = 0;
  plan.packed_bytes = static_cast<size_t>(p.groups * b.packed_group) * sizeof(float);
  plan.packs_in_run = plan.packed_bytes > kPackedScratchBytes || b.blocks() == 1;
  plan.blocking.thread_bytes = winograd_thread_bytes(plan);
  plan.workspace_bytes = align_up(static_cast<size_t>(p.bias_length() + 2 * kPackSlack) * sizeof(float)) +
                         static_cast<size_t>(plan.threads) * plan.blocking.thread_bytes;
}

}  // namespace

int winograd_form(int64_t taps, int alpha) {
  if (taps == 1) return 0;
  for (int i = 1; i < kWinogradFormCount; ++i)
    if (kWinogradForms[i].alpha == alpha && kWinogradForms[i].results == alpha - taps + 1) return i;
  return -1;
}

double winograd_line_in(int alpha) { return alpha == 1 ? 0 : alpha == 4 ? 4 : alpha == 6 ? 12 : 24; }

Support winograd_supports(const ConvProblem& p, const Machine&) {
  if (p.dtype != DType::float32) return {"winograd computes in float32 only"};
  const std::vector<Gather> gathers = make_gathers(p);
  if (gathers.size() != 1) return {"computes input gradients of stride 1 only"};
  const Gather& g = gathers[0];
  for (const Walk& walk : {g.h(), g.w()}) {
    if (!whole(walk)) return {"computes input gradients of stride 1 only"};
    const int64_t dilation = winograd_dilation(walk);
    if (walk.src_step > 1 && p.direction == Direction::weight_gradient)
      return {"computes weight gradients of stride 1 only"};
    if (walk.src_step > 1 && dilation > 1) return {"needs a stride or a dilation of 1"};
    if (walk.src_step > walk.taps && walk.src_step > 1)
      return {cat("needs strides within the kernel, here ", walk.src_step, " and ", walk.taps, " taps")};
    if (dilation == 1) continue;
    if (p.direction == Direction::weight_gradient) return {"computes weight gradients without dilation only"};
    if (dilation >= walk.dst) return {cat("needs a dilation below the extent of the result, here ", dilation)};
  }
  if (p.direction == Direction::weight_gradient && !identity(g.d()))
    return {"computes weight gradients of kernels of depth 1 only, without padding along it"};
  if (!whole(g.d()) || g.d().taps > kWinogradDepthTaps)
    return {cat("needs gradients without a stride along the depth, and kernels of at most ", kWinogradDepthTaps,
                " taps there")};
  const int64_t h = winograd_taps(g.h()), w = winograd_taps(g.w());
  if (g.taps() > kWinogradTaps) return {cat("needs at most ", kWinogradTaps, " taps, here ", g.taps())};
  if (!has_forms(g.h(), g.w()))
    return {cat("has no form for ", h, "x", w, " taps", g.h().src_step * g.w().src_step > 1 ? " of each phase" : "")};
  if (p.direction == Direction::weight_gradient && (h % 2 == 0 || w % 2 == 0))
    return {cat("computes weight gradients of an odd number of taps only, here ", h, "x", w)};
  return {};
}

double winograd_cost(const ConvProblem& p, const Machine& machine, int threads) {
  return cost(p, machine, threads, kOneImage);
}

double winograd_pack_cost(const ConvProblem& p, const Machine& machine) { return pack_cost(p, machine, kOneImage); }

void winograd_prepare(ConvPlan& plan) { prepare(plan, kOneImage); }

Support winograd_batch_supports(const ConvProblem& p, const Machine& machine) {
  const Support support = winograd_supports(p, machine);
  if (!support.ok()) return support;
  if (p.direction == Direction::weight_gradient) return {"computes no weight gradients"};
  const Gather g = make_gathers(p)[0];
  if (choose_forms(p, g, machine, kOneImage) == choose_forms(p, g, machine, kManyImages))
    return {"would take the form that winograd takes"};
  return {};
}

double winograd_batch_cost(const ConvProblem& p, const Machine& machine, int threads) {
  return cost(p, machine, threads, kManyImages);
}

double winograd_batch_pack_cost(const ConvProblem& p, const Machine& machine) {
  return pack_cost(p, machine, kManyImages);
}

void winograd_batch_prepare(ConvPlan& plan) { prepare(plan, kManyImages); }

void winograd_batch_pack(const ConvPlan& plan, const void* w, void* packed, Interrupt& interrupt) {
  winograd_pack(plan, w, packed, interrupt);
}

void winograd_batch_run(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace,
                        Interrupt& interrupt) {
  winograd_run(plan, operands, workspace, interrupt);
}

}  // namespace fastconv
