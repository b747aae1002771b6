// NHWC: rows of results one after another, divided among the threads; the kernel takes a row, channels along the
// vector.
#include "../buffer.h"
#include "pooling.h"

namespace fastconv::pooling {

template <class T>
void pool_pixels(const PoolProblem& p, const Operands<T>& o, const PoolKernel<T>& kernel, Interrupt& interrupt) {
  const Windows<T> windows(p, 0);
  const int64_t rows = p.d().out * p.h().out, out_row = p.w().out * p.channels;
  const int64_t image = p.in_pixels() * p.channels;
  double row_work = static_cast<double>(out_row);
  for (const Axis& axis : p.axes) row_work *= static_cast<double>(std::min(axis.kernel, axis.in));
  const int threads = threads_for(row_work * static_cast<double>(p.batch * rows));
  const size_t spare = align_up((out_row + kPoolSlack) * sizeof(T));
  const size_t spare_index = o.index ? align_up((out_row + kPoolSlack) * sizeof(int64_t)) : 0;
  const Workspace workspace((spare + spare_index) * threads);
  parallel_ranges(p.batch * rows, row_work, threads, interrupt, [&](int64_t begin, int64_t end, int thread) {
    PoolPixels<T> k{};
    k.x_end = o.x + p.batch * image;
    k.y_end = o.y + end * out_row;
    k.w = windows.axis[2].data();
    k.out_w = p.w().out, k.in_h = p.h().in, k.in_w = p.w().in, k.channels = p.channels;
    k.step_d = p.d().dilation, k.step_h = p.h().dilation, k.step_w = p.w().dilation;
    k.extents = windows.extents.data();
    std::byte* const own = workspace.data() + (spare + spare_index) * thread;
    k.spare = reinterpret_cast<T*>(own), k.spare_index = reinterpret_cast<int64_t*>(own + spare);
    for (int64_t row = begin; row < end; ++row) {
      k.d = windows.axis[0][row % rows / p.h().out];
      k.h = windows.axis[1][row % p.h().out];
      k.x = o.x + row / rows * image;
      k.y = o.y + row * out_row;
      k.index = o.index ? o.index + row * out_row : nullptr;
      k.divisor = windows.share(p, k.d, k.h);
      p.kind == PoolKind::max ? kernel.max_pixels(k) : kernel.average_pixels(k);
    }
  });
}

template void pool_pixels(const PoolProblem&, const Operands<float>&, const PoolKernel<float>&, Interrupt&);
template void pool_pixels(const PoolProblem&, const Operands<double>&, const PoolKernel<double>&, Interrupt&);

}  // namespace fastconv::pooling
