// The gradient of average pooling: every element of a window gets the result's gradient divided by the divisor.
//
// NCHW, planes divided among the threads; a plane, filled with 0 first:
//   for each row of results:  scaled = g / divisor;  row[j] = sum of scaled over the columns whose window holds j
//                             for each row under it: x[row] += row
//   The sum over columns is a correlation with ones of the gradients set a stride apart among zeros.
// NHWC, rows of x divided among the threads; a row, filled with 0 first:
//   for each row of results whose window holds it:  for ow: x[taps of ow] += g[ow] / divisor
#include "../buffer.h"
#include "../half.h"
#include "../pool.h"
#include "pooling.h"

namespace fastconv {
namespace pooling {
namespace {

// Row-wise work space of one thread.
template <class T>
struct Rows {
  T *scaled, *apart, *row;
};

template <class T>
struct PlaneGradient {
  const PoolProblem& p;
  const PoolKernel<T>& kernel;
  Windows<T> windows{p, 0};
  int64_t lead = p.w().kernel - 1;  // zeros that the first correlation reads
  int64_t apart_length = lead + std::max(p.w().in + p.w().pad_lo, p.w().out* p.w().stride) + kPoolSlack;
  // Otherwise the windows are gone through one by one.
  bool even = !p.adaptive[2] && apart_length <= 4 * p.w().in + 4096;

  size_t carve(Carver carver, Rows<T>* rows, int threads) const {
    for (int t = 0; t < threads; ++t) {
      const Rows<T> r{carver.take<T>(p.w().out + kPoolSlack), even ? carver.take<T>(apart_length) : nullptr,
                      carver.take<T>(p.w().in + kPoolSlack)};
      if (rows) rows[t] = r;
    }
    return carver.used();
  }

  // r.row from one row of gradients.
  void spread_columns(const T* g, T share, const Rows<T>& r) const {
    const int64_t out_w = p.w().out;
    kernel.divide(r.scaled, g, windows.extents.data(), share, out_w);
    if (even) {
      for (int64_t q = 0; q < out_w; ++q) r.apart[lead + q * p.w().stride] = r.scaled[q];
      kernel.correlate(r.row, r.apart + lead + p.w().pad_lo, p.w().in, p.w().kernel);
      return;
    }
    std::fill_n(r.row, p.w().in, T{0});
    for (int64_t q = 0; q < out_w; ++q) {
      const Window& w = windows.axis[2][q];
      for (int64_t t = 0; t < w.taps; ++t) r.row[w.first + t] += r.scaled[q];
    }
  }

  void run(const T* g, T* x, const Rows<T>& r) const {
    const int64_t in_w = p.w().in;
    std::fill_n(x, p.in_pixels(), T{0});
    for (const Window& d : windows.axis[0])
      for (const Window& h : windows.axis[1]) {
        spread_columns(g, windows.share(p, d, h), r);
        g += p.w().out;
        for (int64_t td = 0; td < d.taps; ++td)
          for (int64_t th = 0; th < h.taps; ++th)
            kernel.add(x + ((d.first + td) * p.h().in + h.first + th) * in_w, r.row, in_w);
      }
  }
};

template <class T>
void gradient_of_planes(const PoolProblem& p, const T* g, T* x, const PoolKernel<T>& kernel, Interrupt& interrupt) {
  const int64_t in_pixels = p.in_pixels(), out_pixels = p.out_pixels();
  if (p.global()) {
    const T divisor = static_cast<T>(p.divisor ? p.divisor : in_pixels);
    parallel_ranges(p.planes(), static_cast<double>(in_pixels), interrupt, [&](int64_t begin, int64_t end, int) {
      for (int64_t plane = begin; plane < end; ++plane)
        std::fill_n(x + plane * in_pixels, in_pixels, g[plane] / divisor);
    });
    return;
  }
  const PlaneGradient<T> gradient{p, kernel};
  double work = 2.0 * static_cast<double>(in_pixels);
  for (const Axis& axis : p.axes) work += static_cast<double>(out_pixels) * static_cast<double>(axis.kernel);
  const int threads = threads_for(work * static_cast<double>(p.planes()));
  const Workspace workspace(gradient.carve(Carver(nullptr), nullptr, threads));
  std::vector<Rows<T>> rows(threads);
  gradient.carve(Carver(workspace.data()), rows.data(), threads);
  if (gradient.even)
    for (const Rows<T>& r : rows) std::fill_n(r.apart, gradient.apart_length, T{0});
  parallel_ranges(p.planes(), work, threads, interrupt, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t plane = begin; plane < end; ++plane)
      gradient.run(g + plane * out_pixels, x + plane * in_pixels, rows[thread]);
  });
}

// Windows that hold position `at`: both ends of the windows grow with their number.
std::pair<int64_t, int64_t> windows_over(const std::vector<Window>& windows, int64_t at) {
  const auto begin =
      std::partition_point(windows.begin(), windows.end(), [at](const Window& w) { return w.first + w.taps <= at; });
  const auto end = std::partition_point(begin, windows.end(), [at](const Window& w) { return w.first <= at; });
  return {begin - windows.begin(), end - windows.begin()};
}

template <class T>
void gradient_of_pixels(const PoolProblem& p, const T* g, T* x, const PoolKernel<T>& kernel, Interrupt& interrupt) {
  const Windows<T> windows(p, 0);
  const int64_t in_rows = p.d().in * p.h().in, row = p.w().in * p.channels, out_row = p.w().out * p.channels;
  const double work = static_cast<double>(row) * (1 + p.w().kernel * (1 + p.h().kernel / p.h().stride));
  parallel_ranges(p.batch * in_rows, work, interrupt, [&](int64_t begin, int64_t end, int) {
    for (int64_t item = begin; item < end; ++item) {
      T* const dst = x + item * row;
      const T* const image = g + item / in_rows * p.out_pixels() * p.channels;
      std::fill_n(dst, row, T{0});
      const auto [d0, d1] = windows_over(windows.axis[0], item % in_rows / p.h().in);
      const auto [h0, h1] = windows_over(windows.axis[1], item % p.h().in);
      for (int64_t od = d0; od < d1; ++od)
        for (int64_t oh = h0; oh < h1; ++oh) {
          const T share = windows.share(p, windows.axis[0][od], windows.axis[1][oh]);
          const T* const src = image + (od * p.h().out + oh) * out_row;
          for (int64_t q = 0; q < p.w().out; ++q) {
            const Window& w = windows.axis[2][q];
            kernel.spread(dst + w.first * p.channels, src + q * p.channels, w.taps, p.channels,
                          share * windows.extents[q]);
          }
        }
    }
  });
}

}  // namespace
}  // namespace pooling

bool run_average_gradient(const PoolProblem& p, const void* grad_y, void* grad_x, Interrupt::Poll poll) {
  Interrupt interrupt(poll);
  const auto spread = [&interrupt](const PoolProblem& problem, const auto* g, auto* x) {
    using T = std::remove_pointer_t<decltype(x)>;
    const auto& kernel = typed<T>(kernels_for(this_machine().isa).pool);
    problem.layout == Layout::nchw ? pooling::gradient_of_planes<T>(problem, g, x, kernel, interrupt)
                                   : pooling::gradient_of_pixels<T>(problem, g, x, kernel, interrupt);
  };
  if (is_half(p.dtype)) {
    PoolProblem wide = p;
    wide.dtype = DType::float32;
    in_float32(p.dtype, p.batch, p.channels * p.out_pixels(), p.channels * p.in_pixels(), grad_y, grad_x, interrupt,
               [&](int64_t, int64_t images, float* g, float* x) {
                 wide.batch = images;
                 spread(wide, const_cast<const float*>(g), x);
               });
    return !interrupt.stopped();
  }
  visit_dtype(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    spread(p, static_cast<const T*>(grad_y), static_cast<T*>(grad_x));
  });
  return !interrupt.stopped();
}

}  // namespace fastconv
