// reference: the definition, written as it is read. Any problem, any direction; one thread; sums in double.
//
// forward, input_gradient   for each phase (core/gather.h), image, group, dst channel, dst position:
//                             act( bias + sum over src channel and taps of w * src + residual )
// weight_gradient           for each weight: sum over images and output positions of x * y
//
// Every other algorithm is measured against it, and it takes what they all refuse.
#include <algorithm>

#include "../plan.h"
#include "algorithms.h"

namespace fastconv {
namespace {

struct Strides {  // in elements, of an activation array
  int64_t image, channel, d, h, w;
};

Strides strides_of(Layout layout, int64_t channels, int64_t d, int64_t h, int64_t w) {
  const int64_t pixels = d * h * w;
  if (layout == Layout::nchw) return {channels * pixels, pixels, h * w, w, 1};
  return {channels * pixels, 1, h * w * channels, w * channels, channels};
}

template <class T>
void run_gather(const ConvPlan& plan, const Gather& g, const ConvOperands& operands, Interrupt& interrupt) {
  const ConvProblem& p = plan.problem;
  const bool forward = p.direction == Direction::forward;
  const Walk &D = g.d(), &H = g.h(), &W = g.w();
  const Strides src_at = strides_of(p.layout, g.src_c * p.groups, D.src, H.src, W.src);
  const Strides dst_at = strides_of(p.layout, g.dst_c * p.groups, D.dst_full, H.dst_full, W.dst_full);
  const T* const src = static_cast<const T*>(forward ? operands.x : operands.y);
  T* const dst = static_cast<T*>(forward ? operands.y : operands.x);
  const T* const w = static_cast<const T*>(operands.w);
  const T* const bias = static_cast<const T*>(operands.bias);
  const T* const residual = static_cast<const T*>(operands.residual);

  const auto weight = [&](int64_t group, int64_t to, int64_t from, int64_t td, int64_t th, int64_t tw) -> double {
    const int64_t out = group * p.out_c_group() + (forward ? to : from), in = forward ? from : to;
    const int64_t kd = D.tap_start + td * D.tap_step, kh = H.tap_start + th * H.tap_step,
                  kw = W.tap_start + tw * W.tap_step;
    return w[(((out * p.in_c_group() + in) * p.d().kernel + kd) * p.h().kernel + kh) * p.w().kernel + kw];
  };
  const auto value_at = [&](int64_t n, int64_t group, int64_t to, int64_t jd, int64_t jh, int64_t jw) {
    double sum = bias ? bias[group * g.dst_c + to] : T{0};
    for (int64_t from = 0; from < g.src_c; ++from)
      for (int64_t td = 0; td < D.taps; ++td)
        for (int64_t th = 0; th < H.taps; ++th)
          for (int64_t tw = 0; tw < W.taps; ++tw) {
            const int64_t z = D.position(jd, td), y = H.position(jh, th), x = W.position(jw, tw);
            if (z < 0 || z >= D.src || y < 0 || y >= H.src || x < 0 || x >= W.src) continue;
            sum +=
                weight(group, to, from, td, th, tw) * src[n * src_at.image + (group * g.src_c + from) * src_at.channel +
                                                          z * src_at.d + y * src_at.h + x * src_at.w];
          }
    return sum;
  };

  parallel_for(p.batch * p.groups * g.dst_c, 1, interrupt, [&](int64_t item, int) {
    const int64_t to = item % g.dst_c, group = item / g.dst_c % p.groups, n = item / g.dst_c / p.groups;
    T* const plane = dst + n * dst_at.image + (group * g.dst_c + to) * dst_at.channel;
    for (int64_t jd = 0; jd < D.dst; ++jd)
      for (int64_t jh = 0; jh < H.dst && !interrupt.stopped(); ++jh, interrupt.check())
        for (int64_t jw = 0; jw < W.dst; ++jw) {
          T* const y = plane + (D.dst_start + jd * D.dst_step) * dst_at.d + (H.dst_start + jh * H.dst_step) * dst_at.h +
                       (W.dst_start + jw * W.dst_step) * dst_at.w;
          const double more = residual ? static_cast<double>(residual[y - dst]) : 0;
          *y = activated(static_cast<T>(value_at(n, group, to, jd, jh, jw) + more), p.activation);
        }
  });
}

template <class T>
void run_weight_gradient(const ConvPlan& plan, const ConvOperands& operands, Interrupt& interrupt) {
  const ConvProblem& p = plan.problem;
  const Strides x_at = strides_of(p.layout, p.in_c, p.d().in, p.h().in, p.w().in);
  const Strides y_at = strides_of(p.layout, p.out_c, p.d().out, p.h().out, p.w().out);
  const T* const x = static_cast<const T*>(operands.x);
  const T* const y = static_cast<const T*>(operands.y);
  T* const w = static_cast<T*>(operands.w);
  const auto source = [](const Axis& a, int64_t o, int64_t t) { return o * a.stride + t * a.dilation - a.pad_lo; };

  parallel_for(p.weight_elements(), 1, interrupt, [&](int64_t item, int) {
    int64_t rest = item;
    const int64_t kw = rest % p.w().kernel;
    const int64_t kh = (rest /= p.w().kernel) % p.h().kernel;
    const int64_t kd = (rest /= p.h().kernel) % p.d().kernel;
    const int64_t in = (rest /= p.d().kernel) % p.in_c_group();
    const int64_t out = rest / p.in_c_group();
    const int64_t in_channel = out / p.out_c_group() * p.in_c_group() + in;
    double sum = 0;
    for (int64_t n = 0; n < p.batch; ++n)
      for (int64_t od = 0; od < p.d().out; ++od)
        for (int64_t oh = 0; oh < p.h().out && !interrupt.stopped(); ++oh, interrupt.check())
          for (int64_t ow = 0; ow < p.w().out; ++ow) {
            const int64_t z = source(p.d(), od, kd), v = source(p.h(), oh, kh), u = source(p.w(), ow, kw);
            if (z < 0 || z >= p.d().in || v < 0 || v >= p.h().in || u < 0 || u >= p.w().in) continue;
            sum += static_cast<double>(
                       x[n * x_at.image + in_channel * x_at.channel + z * x_at.d + v * x_at.h + u * x_at.w]) *
                   y[n * y_at.image + out * y_at.channel + od * y_at.d + oh * y_at.h + ow * y_at.w];
          }
    w[item] = static_cast<T>(sum);
  });
}

}  // namespace

Support reference_supports(const ConvProblem&, const Machine&) { return {}; }

// One multiply-add with its index arithmetic takes about ten cycles, on one thread.
double reference_cost(const ConvProblem& p, const Machine&, int) { return 10 * p.flops() / 2; }

void reference_prepare(ConvPlan&) {}

void reference_pack(const ConvPlan&, const void*, void*, Interrupt&) {}

void reference_run(const ConvPlan& plan, const ConvOperands& operands, std::byte*, Interrupt& interrupt) {
  visit_dtype(plan.problem.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (plan.problem.direction == Direction::weight_gradient) {
      run_weight_gradient<T>(plan, operands, interrupt);
      return;
    }
    if (!covers_result(plan.gathers)) fill_uncovered<T>(plan, operands);
    for (const Gather& gather : plan.gathers) run_gather<T>(plan, gather, operands, interrupt);
  });
}

}  // namespace fastconv
