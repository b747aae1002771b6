#include "winograd_products.h"

namespace fastconv {

TermRange winograd_used(const Gather& g, const WinogradBlocking& b, int64_t part, bool last_row, bool last_col) {
  const int64_t begin = b.depths.begin(part), end = b.depths.begin(part + 1);
  const auto has_last = [](const Walk& walk, int64_t phase) {
    return phase + (winograd_taps(walk) - 1) * walk.src_step < walk.taps;
  };
  TermRange used{end, begin};
  for (int64_t slice = begin / g.src_c; slice * g.src_c < end; ++slice) {
    if (last_row && !has_last(g.h(), slice / b.phases_w % b.phases_h)) continue;
    if (last_col && !has_last(g.w(), slice % b.phases_w)) continue;
    used.begin = std::min(used.begin, std::max(begin, slice * g.src_c));
    used.end = std::max(used.end, std::min(end, (slice + 1) * g.src_c));
  }
  return {used.begin - begin, used.end - begin};
}

WinogradProducts::WinogradProducts(const ConvPlan& plan, const ConvOperands& operands)
    : plan_(plan),
      b_(plan.blocking.winograd),
      kernels_(kernels_for(plan.machine.isa)),
      lanes_(kernels_.winograd.lanes),
      cols_(kWinogradForms[b_.form_w].alpha),
      weights_(static_cast<const float*>(operands.w)),
      packed_(static_cast<const float*>(operands.packed)) {
  for (const bool last_row : {false, true})
    for (const bool last_col : {false, true})
      for (int64_t k = 0; k < b_.depths.parts; ++k)
        used_.push_back(winograd_used(plan.gathers[0], b_, k, last_row, last_col));
}

const TermRange& WinogradProducts::used(int64_t position, int64_t part) const {
  const bool last_row = cols_ < b_.positions && position >= b_.positions - cols_;
  const bool last_col = cols_ > 1 && position % cols_ == cols_ - 1;
  return used_[static_cast<size_t>(((last_row ? 2 : 0) + (last_col ? 1 : 0)) * b_.depths.parts + part)];
}

// With prepared weights position by position: the tiles of a position stay in L1 for all panels where those of all
// positions exceed L2.
void WinogradProducts::multiply(int64_t group, int64_t first, int64_t last, int64_t tiles, const float* v, float* sums,
                                float* weights) const {
  const int64_t count = ceil_div(tiles, kernels_.gemm.f32.max_rows);
  Block block{{}, count, tiles / count, tiles % count, v, sums};
  GemmTile<float>& t = block.tile;
  t.a_row = b_.tile_step, t.a_k = 1;
  t.segments = 1;
  t.ask_step = ceil_div(2 * lanes_, count);
  t.c_row = b_.sum_step, t.c_col = 1;
  const WinogradPanel begin = winograd_panel(plan_, group, first), end = winograd_panel(plan_, group, last - 1);
  if (packed_) {
    const int64_t panel_step = b_.positions * winograd_pitch(b_.depths.count * 2 * lanes_);
    const auto at = [&](int64_t position, int64_t i) {
      return packed_ + begin.packed_offset + (i - first) * panel_step +
             position * (i + 1 < last ? begin : end).position;
    };
    for (int64_t position = 0; position < b_.positions; ++position)
      for (int64_t i = first; i < last; ++i) {
        const float* const next = i + 1 < last                  ? at(position, i + 1)
                                  : position + 1 < b_.positions ? at(position + 1, first)
                                                                : nullptr;
        const int64_t width = (i + 1 < last ? begin : end).width;
        sum(block, width, i - first, position, {0, b_.depths.parts}, at(position, i), next);
      }
    return;
  }
  for (int64_t i = first; i < last; ++i) {
    const WinogradPanel panel = winograd_panel(plan_, group, i);
    for (int64_t k = 0; k < b_.depths.parts; ++k) {
      const int64_t step = winograd_pitch(b_.depths.size(k) * panel.width);
      transform_panel(plan_, group, panel, {b_.depths.begin(k), b_.depths.begin(k + 1)}, weights_, weights, step);
      for (int64_t position = 0; position < b_.positions; ++position)
        sum(block, panel.width, i - first, position, {k, k + 1}, weights + position * step, nullptr);
    }
  }
}

// The products of one position of a panel, the chunk's `index`, over parts of the terms whose weights begin at `u`;
// those at `next` are read after them.
void WinogradProducts::sum(Block& block, int64_t width, int64_t index, int64_t position, const TermRange& parts,
                           const float* u, const float* next) const {
  const GemmKernel<float>& gemm = kernels_.gemm.f32;
  GemmTile<float>& t = block.tile;
  t.b_k = width, t.cols = static_cast<int>(width);
  const int vectors = width == lanes_ ? 1 : 2;
  for (int64_t k = parts.begin; k < parts.end; ++k) {
    const TermRange& terms = used(position, k);
    t.depth = terms.end - terms.begin;
    t.b = u + terms.begin * width;
    u += b_.depths.size(k) * width;
    if (t.depth <= 0) continue;  // never the first part: the first phase has all taps
    const float* ask = k + 1 < parts.end ? u : next;
    const float* const asked = ask ? ask + t.depth * width : nullptr;
    t.a = block.v + position * b_.position_step + b_.depths.begin(k) + terms.begin;
    t.c = block.sums + position * b_.sum_position + index * 2 * lanes_;
    for (int64_t j = 0; j < block.count; ++j) {
      const int64_t height = block.height + (j < block.taller ? 1 : 0);
      t.ask = ask < asked ? ask : nullptr;
      if (ask) ask += t.depth * t.ask_step;
      t.add = k > 0 ? t.c : nullptr;
      gemm.run(t, static_cast<int>(height), vectors);
      t.a += height * b_.tile_step, t.c += height * b_.sum_step;
    }
  }
}

}  // namespace fastconv
