// Depthwise of small planes: as many planes as a vector has lanes are turned so that lanes are channels.
//
//   filters packed once: [channels of a vector][tap][lane]
//   for item = (image, channels of a vector, part of the rows):      one thread each
//     rows of x that the part reads, turned, between columns of 0    in L2
//     channels tile (kernels/depthwise/channels.h) over the part
//     results turned back
//
// A row of 7 or 14 results fills a vector by half, and its edges need masks. Turned, no lane is idle, every load is of
// whole cache lines, and taps outside the image are not computed.
#include <algorithm>

#include "../buffer.h"
#include "depthwise_pixels.h"

namespace fastconv {
namespace {

int64_t lanes_of(const ConvPlan& plan) { return plan.machine.lanes(static_cast<int64_t>(size_of(plan.problem.dtype))); }

// Rows of the source that results [row0, row1) read, inside it.
struct Rows {
  int64_t begin, end;
  Rows(const Walk& h, int64_t row0, int64_t row1)
      : begin(std::clamp<int64_t>(h.least_offset() + row0 * h.src_step, 0, h.src)),
        end(std::clamp<int64_t>(h.most_offset() + (row1 - 1) * h.src_step + 1, begin, h.src)) {}
};

// Columns of the source before and behind it that results read.
struct Columns {
  int64_t left, right, all;
  explicit Columns(const Walk& w)
      : left(std::max<int64_t>(0, -w.least_offset())),
        right(std::max<int64_t>(0, w.most_offset() + (w.dst - 1) * w.src_step + 1 - w.src)),
        all(left + w.src + right) {}
};

// Parts of the rows: what a part holds takes at most half of L2, and there are a few items for every thread.
Split parts_of(const ConvPlan& plan) {
  const Gather& g = plan.gathers[0];
  const int64_t pixel = plan.machine.vector_bytes(), room = plan.machine.l2_bytes / 2 / pixel;
  const int64_t columns = Columns(g.w()).all, overlap = g.h().taps * distance(g.h()) * columns;
  const int64_t rows = std::max<int64_t>(1, (room - overlap) / (g.h().src_step * columns + g.w().dst));
  int64_t parts = ceil_div(g.h().dst, rows);
  const int64_t batches = std::max<int64_t>(1, plan.problem.batch * ceil_div(plan.problem.groups, lanes_of(plan)));
  if (plan.threads > 1 && batches < 4 * plan.threads) parts = std::max(parts, ceil_div(4 * plan.threads, batches));
  return {g.h().dst, std::min(parts, g.h().dst)};
}

template <class T>
struct Scratch {
  T *x, *y, *bias;
  Scratch(Carver& carver, const ConvPlan& plan) {
    const Gather& g = plan.gathers[0];
    const Split parts = parts_of(plan);
    int64_t most = 0;
    for (int64_t part = 0; part < parts.parts; ++part) {
      const Rows rows(g.h(), parts.begin(part), parts.begin(part + 1));
      most = std::max(most, rows.end - rows.begin);
    }
    x = carver.take<T>(most * Columns(g.w()).all * lanes_of(plan));
    y = carver.take<T>(ceil_div(parts.count, parts.parts) * g.w().dst * lanes_of(plan));
    bias = carver.take<T>(lanes_of(plan));
  }
};

template <class T>
void run_item(const ConvPlan& plan, const ConvOperands& operands, const Split& parts, int64_t item,
              const Scratch<T>& s) {
  const ConvProblem& p = plan.problem;
  const Gather& g = plan.gathers[0];
  const DepthwiseKernel<T>& kernel = typed<T>(kernels_for(plan.machine.isa).depthwise);
  const bool forward = p.direction == Direction::forward;
  const int64_t lanes = lanes_of(plan), batches = ceil_div(p.groups, lanes);
  const int64_t part = item % parts.parts, batch = item / parts.parts % batches, image = item / parts.parts / batches;
  const int64_t channel = batch * lanes, channels = std::min(lanes, p.groups - channel);
  const int64_t src_plane = g.h().src * g.w().src, dst_plane = g.h().dst * g.w().dst;
  const Rows rows(g.h(), parts.begin(part), parts.begin(part + 1));
  const Columns columns(g.w());

  DepthwiseTurn<T> in{};
  // Read only: one struct serves both ways.
  in.planes = const_cast<T*>(static_cast<const T*>(forward ? operands.x : operands.y)) +
              (image * p.groups + channel) * src_plane + rows.begin * g.w().src;
  in.plane = src_plane;
  in.channels = channels;
  in.rows = rows.end - rows.begin;
  in.count = in.planes_row = g.w().src;
  in.lanes = s.x + columns.left * lanes;
  in.lanes_row = columns.all * lanes;
  kernel.turn_in(in);
  for (int64_t r = 0; r < in.rows; ++r) {
    T* const row = s.x + r * in.lanes_row;
    std::fill(row, row + columns.left * lanes, T{0});
    std::fill(row + in.lanes_row - columns.right * lanes, row + in.lanes_row, T{0});
  }

  DepthwisePixels<T> t = pixels_of<T>(p, g, lanes);
  t.x = s.x;
  t.x_row = in.lanes_row;
  t.in_w = columns.all;
  t.first_w += columns.left;
  t.in_h = rows.end - rows.begin;
  t.first_h += parts.begin(part) * t.step_h - rows.begin;
  t.w = static_cast<const T*>(operands.packed) + channel * g.taps();
  t.y = s.y;
  t.y_col = t.channels = lanes;
  t.y_row = lanes * t.cols;
  t.rows = parts.size(part);
  if (operands.bias) {
    for (int64_t c = 0; c < channels; ++c) s.bias[c] = static_cast<const T*>(operands.bias)[channel + c];
    for (int64_t c = channels; c < lanes; ++c) s.bias[c] = T{0};
    t.bias = s.bias;
  }
  const int64_t result = (image * p.groups + channel) * dst_plane + parts.begin(part) * g.w().dst;
  if (operands.residual) {
    in.planes = const_cast<T*>(static_cast<const T*>(operands.residual)) + result;
    in.plane = dst_plane;
    in.rows = 1;
    in.count = t.rows * t.cols;
    in.lanes = s.y;
    kernel.turn_in(in);
    t.add = s.y;
  }
  kernel.pixels(t);
  if (const CurveFunction<T> curve = curve_of<T>(plan)) curve({s.y, 0, 1, 1, t.rows * t.cols * lanes});

  DepthwiseTurn<T> out{};
  out.planes = static_cast<T*>(forward ? operands.y : operands.x) + result;
  out.plane = dst_plane;
  out.rows = 1;
  out.channels = channels;
  out.count = t.rows * t.cols;
  out.lanes = s.y;
  kernel.turn_out(out);
}

}  // namespace

void prepare_depthwise_turned(ConvPlan& plan) {
  const ConvProblem& p = plan.problem;
  const int64_t lanes = lanes_of(plan), batches = ceil_div(p.groups, lanes);
  plan.blocking.items = p.batch * batches * parts_of(plan).parts;
  plan.packed_bytes = static_cast<size_t>(batches * lanes * plan.gathers[0].taps()) * size_of(p.dtype);
  plan.blocking.thread_bytes = visit_dtype(p.dtype, [&](auto zero) {
    Carver carver(nullptr);
    const Scratch<decltype(zero)> scratch(carver, plan);
    return carver.used();
  });
  plan.workspace_bytes = static_cast<size_t>(plan.threads) * plan.blocking.thread_bytes;
}

void run_depthwise_turned(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace,
                          Interrupt& interrupt) {
  visit_dtype(plan.problem.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Split parts = parts_of(plan);
    parallel_for(plan.blocking.items, plan.threads, interrupt, [&](int64_t item, int thread) {
      Carver carver(workspace + static_cast<size_t>(thread) * plan.blocking.thread_bytes);
      const Scratch<T> scratch(carver, plan);
      run_item(plan, operands, parts, item, scratch);
    });
  });
}

}  // namespace fastconv
