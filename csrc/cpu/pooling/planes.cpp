// NCHW: planes one after another, a plane's rows in order.
//
//   for each item, a run of planes or a part of one:    divided among the threads
//     row, place = neutral
//     for plane in item: kernel(plane, rows, columns)
// A plane that is one window is a sum or maximum of contiguous numbers.
#include "../buffer.h"
#include "pooling.h"

namespace fastconv::pooling {
namespace {

// A plane too large for an item is divided into rows, and a row that is too long into columns.
struct Partition {
  int64_t planes = 1, rows, cols;  // per item
  int64_t row_items = 1, col_items = 1, items;
  int threads;

  explicit Partition(const PoolProblem& p) {
    const int64_t out_rows = p.d().out * p.h().out;
    const double row_taps = static_cast<double>(std::min(p.d().kernel, p.d().in)) * std::min(p.h().kernel, p.h().in);
    const double columns = static_cast<double>(p.w().out) * std::min(p.w().kernel, p.w().in);
    const double row_work = row_taps * p.w().in + columns, plane_work = row_work * out_rows;
    threads = threads_for(plane_work * p.planes());
    rows = out_rows;
    cols = p.w().out;
    planes = units_per_item(p.planes(), plane_work, threads);
    if (planes == 1) rows = std::max<int64_t>(1, std::min<int64_t>(out_rows, static_cast<int64_t>(kItem / row_work)));
    // Every part of a row reduces the whole row again: worth it where that is the lesser work.
    const double reduced = row_taps * p.w().in;
    if (rows == 1 && columns > kItem)
      cols = std::max<int64_t>(64, static_cast<int64_t>(p.w().out * std::max(kItem, 4 * reduced) / columns));
    cols = std::min(cols, p.w().out);
    row_items = (out_rows + rows - 1) / rows;
    col_items = (p.w().out + cols - 1) / cols;
    items = (p.planes() + planes - 1) / planes * row_items * col_items;
  }
};

// Whether the columns can be read from a padded row: strides that the kernels de-interleave, and no padding or
// overhang that makes the row much longer than the input.
bool evenly_spaced(const PoolProblem& p, int64_t length) {
  constexpr int64_t kShortRow = 4096;  // elements: whatever the input, this much stays in the L1 cache
  return !p.adaptive[2] && p.w().stride <= kMaxPoolStride && length <= 4 * p.w().in + kShortRow;
}

template <class T>
void pool_whole_planes(const PoolProblem& p, const Operands<T>& o, const PoolKernel<T>& kernel, Interrupt& interrupt) {
  const int64_t pixels = p.in_pixels();
  const T divisor = static_cast<T>(p.divisor ? p.divisor : pixels);
  parallel_ranges(p.planes(), static_cast<double>(pixels), interrupt, [&](int64_t begin, int64_t end, int) {
    const auto join = p.kind == PoolKind::max ? kernel.max : kernel.sum;
    join(o.y + begin, o.x + begin * pixels, pixels, end - begin);
    if (p.kind == PoolKind::average)
      for (int64_t plane = begin; plane < end; ++plane) o.y[plane] /= divisor;
  });
}

}  // namespace

template <class T>
void pool_planes(const PoolProblem& p, const Operands<T>& o, const PoolKernel<T>& kernel, Interrupt& interrupt) {
  if (p.global() && !o.index) return pool_whole_planes(p, o, kernel, interrupt);
  const Windows<T> windows(p, kPoolSlack);
  const Partition part(p);
  const int64_t in_pixels = p.in_pixels(), out_pixels = p.out_pixels();
  const int64_t padded =
      std::max(p.w().out * p.w().stride + (p.w().kernel - 1) * p.w().dilation, p.w().pad_lo + p.w().in);
  const bool even = evenly_spaced(p, padded);
  // A batch of rows and their places take a quarter of a small L1 cache, beside the input rows.
  constexpr int64_t kBatchBytes = 8 << 10;
  const int64_t pitch = (even ? padded : p.w().in) + kPoolSlack;
  const int64_t fitting = kBatchBytes / (pitch * static_cast<int64_t>(sizeof(T)));
  const int64_t batch = std::max<int64_t>(1, std::min(fitting, part.rows)), length = batch * pitch;
  const bool average = p.kind == PoolKind::average;
  const T neutral = average ? T{0} : -std::numeric_limits<T>::infinity();

  struct Scratch {
    T *rows, *spare;
    Place<T>* places;
    int64_t* spare_index;
  };
  const auto lay_out = [&](Carver carver, std::vector<Scratch>* scratch) {
    const int64_t spare = part.cols + kPoolSlack;
    for (int t = 0; t < part.threads; ++t) {
      Scratch s{carver.take<T>(length), carver.take<T>(spare), nullptr, nullptr};
      if (o.index) s.places = carver.take<Place<T>>(length), s.spare_index = carver.take<int64_t>(spare);
      if (scratch) scratch->push_back(s);
    }
    return carver.used();
  };
  const Workspace workspace(lay_out(Carver(nullptr), nullptr));
  std::vector<Scratch> scratch;
  lay_out(Carver(workspace.data()), &scratch);

  parallel_for(part.items, part.threads, interrupt, [&](int64_t item, int thread) {
    const int64_t col_item = item % part.col_items, row_item = item / part.col_items % part.row_items;
    const int64_t first = item / part.col_items / part.row_items * part.planes;
    const int64_t last = std::min(first + part.planes, p.planes());
    PoolPlanes<T> k{};
    k.x_end = o.x + p.planes() * in_pixels;
    k.d = windows.axis[0].data(), k.h = windows.axis[1].data(), k.w = windows.axis[2].data();
    k.row_begin = row_item * part.rows;
    k.row_end = std::min(k.row_begin + part.rows, p.d().out * p.h().out);
    k.col_begin = col_item * part.cols;
    k.col_end = std::min(k.col_begin + part.cols, p.w().out);
    k.out_h = p.h().out, k.out_w = p.w().out, k.in_h = p.h().in, k.in_w = p.w().in;
    k.step_d = p.d().dilation, k.step_h = p.h().dilation, k.step_w = p.w().dilation;
    k.kernel = p.w().kernel, k.stride = even ? p.w().stride : 0, k.pad = even ? p.w().pad_lo : 0;
    k.rows = scratch[thread].rows, k.places = scratch[thread].places, k.pitch = pitch, k.batch = batch;
    k.spare = scratch[thread].spare, k.spare_index = scratch[thread].spare_index;
    k.extents = windows.extents.data(), k.divisor = p.divisor, k.count_pad = p.count_include_pad;
    // The item's results are one run of memory: what a vector holds beyond it is another item's.
    k.y_end = o.y + (last - 1) * out_pixels + (k.row_end - 1) * k.out_w + k.col_end;
    std::fill_n(k.rows, length, neutral);
    if (k.places) std::fill_n(k.places, length, std::numeric_limits<Place<T>>::max());
    for (int64_t plane = first; plane < last; ++plane) {
      k.x = o.x + plane * in_pixels;
      k.y = o.y + plane * out_pixels;
      k.index = o.index ? o.index + plane * out_pixels : nullptr;
      if (average) {
        kernel.average_planes(k);
      } else if (kernel.max_planes(k)) {
        for (int64_t r = k.row_begin * k.out_w + k.col_begin; r < (k.row_end - 1) * k.out_w + k.col_end; ++r)
          if (std::isnan(k.y[r])) scan_window(p, windows, k.x, 1, r, k.y + r, k.index + r);
      }
    }
  });
}

template void pool_planes(const PoolProblem&, const Operands<float>&, const PoolKernel<float>&, Interrupt&);
template void pool_planes(const PoolProblem&, const Operands<double>&, const PoolKernel<double>&, Interrupt&);

}  // namespace fastconv::pooling
