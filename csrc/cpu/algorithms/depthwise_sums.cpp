// Weight gradients of depthwise: sums over the pixels of products of two planes.
//
//   dw[group, j][tap] = sum over images and pixels of  dy[group, j][pixel] * x[group][pixel * stride + tap * dilation -
//   pad]
//
//   NCHW: for item = (chunk of the slices of all images, some channels):     lanes are pixels
//           for slice in the chunk, channel, tap in depth:  plane sums, a vector per tap;  the lanes added at the end
//   NHWC: for item = chunk of blocks of rows of all images:                  lanes are channels
//           for block in the chunk, tap in depth:  channel sums, a vector of channels per tap
//   dw = sum of the chunks, in order
//
// The chunks depend on the problem alone, so the sums are the same for any number of threads.
#include <algorithm>
#include <cstring>

#include "../buffer.h"
#include "depthwise_nests.h"

namespace fastconv {
namespace {

// Chunks to share between threads, NCHW together with the channels.
constexpr int64_t kChunks = 16;
// Source elements of a block of rows with the channels last: half of the smallest L2 the project knows.
constexpr int64_t kBlockElements = 32 * 1024;

// Of the planes of x and y that follow each other in memory, and of the sums of their channels.
constexpr int64_t kPlanesBytes = 64 * 1024, kSumsBytes = 8 * 1024;

struct Division {
  bool channels_last;
  int64_t row_blocks;  // of one slice, channels last only
  Split chunks;        // of all slices or blocks of rows
};

Division divide(const ConvProblem& p) {
  Division result{p.layout == Layout::nhwc, 1, {}};
  if (result.channels_last) {
    const int64_t row = std::max<int64_t>(1, p.w().in * p.in_c * p.h().stride);
    const int64_t rows = std::max<int64_t>(1, kBlockElements / row);
    result.row_blocks = ceil_div(p.h().out, rows);
  }
  const int64_t units = p.batch * p.d().out * result.row_blocks;
  const int64_t wanted = result.channels_last ? kChunks : ceil_div(2 * kChunks, p.out_c);
  result.chunks = {units, std::clamp<int64_t>(wanted, 1, std::max<int64_t>(1, units))};
  return result;
}

// Result channels of an item, NCHW: short planes come from memory together. A few items for every thread.
int64_t channels_of_item(const ConvPlan& plan) {
  const ConvProblem& p = plan.problem;
  const int64_t bytes = static_cast<int64_t>(size_of(p.dtype));
  int64_t channels = kPlanesBytes / bytes / std::max<int64_t>(1, p.h().in * p.w().in + p.h().out * p.w().out);
  channels = std::min(channels, kSumsBytes / (p.taps() * plan.machine.vector_bytes()));
  if (plan.threads > 1) channels = std::min(channels, divide(p).chunks.parts * p.out_c / (4 * plan.threads));
  return std::clamp<int64_t>(channels, 1, p.out_c);
}

// Copies of the planes of x between zeros: where they and the results stay in L1.
struct Copy {
  bool used = false;
  int64_t left = 0, row = 0, elements = 0;
  Copy(const ConvProblem& p, const Machine& machine) {
    const Axis &h = p.h(), &w = p.w();
    const int64_t bytes = static_cast<int64_t>(size_of(p.dtype)), lanes = machine.lanes(bytes);
    const auto plain = [](const Axis& a) { return a.stride == 1; };
    const bool square = h.kernel == w.kernel && (w.kernel == 3 || w.kernel == 5 || w.kernel == 7);
    if (p.layout == Layout::nhwc || !square || !plain(h) || !plain(w) || h.dilation != 1 || p.out_c_group() != 1 ||
        p.d().in != 1 || p.d().out != 1 || p.d().kernel != 1)
      return;
    left = std::max<int64_t>(0, w.pad_lo);
    const int64_t read = left - w.pad_lo + ceil_div(w.out, lanes) * lanes + (w.kernel - 1) * w.dilation;
    row = ceil_div(std::max(left + std::max(w.in, lanes), read) * bytes, 64) * 64 / bytes;
    elements = h.in * row;
    used = (2 * elements + h.out * w.out) * bytes <= machine.l1_bytes / 2;
  }
};

template <class T>
class SumsRun {
 public:
  SumsRun(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace)
      : p_(plan.problem),
        division_(divide(plan.problem)),
        copy_(plan.problem, plan.machine),
        channels_{p_.out_c, division_.channels_last ? 1 : ceil_div(p_.out_c, channels_of_item(plan))},
        most_channels_(channels_of_item(plan)),
        kernel_(typed<T>(kernels_for(plan.machine.isa).depthwise)),
        x_(static_cast<const T*>(operands.x)),
        y_(static_cast<const T*>(operands.y)),
        w_(static_cast<T*>(operands.w)) {
    Carver carver(workspace);
    partial_ = carver.take<T>(partial_elements(plan));
    lanes_ = carver.take<T>(lane_elements(plan));
    column_ = carver.take<int64_t>(plan.problem.w().kernel);
    copies_ = carver.take<T>(copy_elements(plan));
    for (int64_t tw = 0; tw < p_.w().kernel; ++tw) column_[tw] = tw * p_.w().dilation - p_.w().pad_lo;
  }
  static int64_t partial_elements(const ConvPlan& plan) {
    return divide(plan.problem).chunks.parts * plan.problem.weight_elements();
  }
  static int64_t lane_elements(const ConvPlan& plan) {
    if (plan.problem.layout == Layout::nhwc) return 0;
    const int64_t lanes = plan.machine.vector_bytes() / static_cast<int64_t>(sizeof(T));
    return plan.threads * channels_of_item(plan) * plan.problem.taps() * lanes;
  }

  static int64_t copy_elements(const ConvPlan& plan) {
    const Copy copy(plan.problem, plan.machine);
    return copy.used ? plan.threads * 2 * copy.elements : 0;
  }

  void planes_item(int64_t item, int thread, Interrupt& interrupt) const {
    const int64_t block = item % channels_.parts, chunk = item / channels_.parts;
    const int64_t channel0 = channels_.begin(block), channels = channels_.size(block);
    const int64_t of_channel = p_.taps() * kernel_.lanes;
    T* const sums = lanes_ + thread * (most_channels_ * of_channel);
    std::memset(sums, 0, static_cast<size_t>(channels * of_channel) * sizeof(T));
    if (copy_.used)
      sum_copies(chunk, channel0, channels, sums, thread, interrupt);
    else
      sum_in_place(chunk, channel0, channels, sums, thread, interrupt);
    kernel_.total(sums, channels * p_.taps(), partial_ + chunk * p_.weight_elements() + channel0 * p_.taps());
  }

  // Channels of the images of a chunk, whose planes lie one after the other, through copies.
  void sum_copies(int64_t chunk, int64_t channel0, int64_t channels, T* sums, int thread, Interrupt& interrupt) const {
    T* const copies = copies_ + thread * 2 * copy_.elements;
    std::fill_n(copies, 2 * copy_.elements, T{0});
    DepthwisePlaneSums<T> t{};
    t.from = {nullptr, channels, p_.h().in, p_.w().in, {copies, copies + copy_.elements}, copy_.left, copy_.row};
    t.read = copy_.left - p_.w().pad_lo;
    t.first_h = -p_.h().pad_lo;
    t.tap_w = p_.w().dilation;
    t.rows = p_.h().out;
    t.cols = p_.w().out;
    t.sums = sums;
    for (int64_t image = division_.chunks.begin(chunk); image < division_.chunks.begin(chunk + 1); ++image) {
      if (interrupt.stop_here(thread)) return;
      t.from.x = x_ + (image * p_.in_c + channel0) * p_.h().in * p_.w().in;
      t.y = y_ + (image * p_.out_c + channel0) * t.rows * t.cols;
      kernel_.plane_sums[(p_.w().kernel - 3) / 2](t);
    }
  }

  void sum_in_place(int64_t chunk, int64_t channel0, int64_t channels, T* sums, int thread,
                    Interrupt& interrupt) const {
    const int64_t of_channel = p_.taps() * kernel_.lanes;
    DepthwiseSums<T> t{};
    t.x_row = t.in_w = p_.w().in;
    t.in_h = p_.h().in;
    t.first_h = -p_.h().pad_lo;
    t.step_h = p_.h().stride;
    t.tap_h = p_.h().dilation;
    t.step_w = p_.w().stride;
    t.column = column_;
    t.ker_h = p_.h().kernel;
    t.ker_w = p_.w().kernel;
    t.y_row = t.cols = p_.w().out;
    t.rows = p_.h().out;
    for (int64_t unit = division_.chunks.begin(chunk); unit < division_.chunks.begin(chunk + 1); ++unit) {
      const int64_t d = unit % p_.d().out, image = unit / p_.d().out;
      if (interrupt.stop_here(thread)) return;
      for (int64_t c = 0; c < channels; ++c) {
        const int64_t channel = channel0 + c;
        t.y = y_ + ((image * p_.out_c + channel) * p_.d().out + d) * p_.h().out * p_.w().out;
        for (int64_t td = 0; td < p_.d().kernel; ++td) {
          const int64_t z = slice(d, td);
          if (z < 0) continue;
          t.x = x_ + ((image * p_.in_c + channel / p_.out_c_group()) * p_.d().in + z) * p_.h().in * p_.w().in;
          t.sums = sums + c * of_channel + td * t.ker_h * t.ker_w * kernel_.lanes;
          kernel_.sums(t);
        }
      }
    }
  }

  void channels_item(int64_t chunk, int thread, Interrupt& interrupt) const {
    T* const sums = partial_ + chunk * p_.weight_elements();
    std::memset(sums, 0, static_cast<size_t>(p_.weight_elements()) * sizeof(T));
    const Split rows{p_.h().out, division_.row_blocks};
    DepthwisePixelSums<T> t{};
    t.x_row = p_.w().in * p_.in_c;
    t.x_col = t.y_col = t.channels = p_.in_c;
    t.in_h = p_.h().in;
    t.in_w = p_.w().in;
    t.step_h = p_.h().stride;
    t.tap_h = p_.h().dilation;
    t.first_w = -p_.w().pad_lo;
    t.step_w = p_.w().stride;
    t.tap_w = p_.w().dilation;
    t.ker_h = p_.h().kernel;
    t.ker_w = p_.w().kernel;
    t.y_row = p_.w().out * p_.in_c;
    t.cols = p_.w().out;
    for (int64_t unit = division_.chunks.begin(chunk); unit < division_.chunks.begin(chunk + 1); ++unit) {
      const int64_t block = unit % rows.parts, d = unit / rows.parts % p_.d().out,
                    image = unit / rows.parts / p_.d().out;
      t.rows = rows.size(block);
      t.first_h = rows.begin(block) * p_.h().stride - p_.h().pad_lo;
      t.y = y_ + ((image * p_.d().out + d) * p_.h().out + rows.begin(block)) * t.y_row;
      for (int64_t td = 0; td < p_.d().kernel && !interrupt.stop_here(thread); ++td) {
        const int64_t z = slice(d, td);
        if (z < 0) continue;
        t.x = x_ + (image * p_.d().in + z) * p_.h().in * t.x_row;
        t.sums = sums + td * t.ker_h * t.ker_w * p_.in_c;
        kernel_.pixel_sums(t);
      }
    }
  }

  // Elements [begin, end) of dw: channel-major, where the sums of channels last have the taps outermost.
  void sum_chunks(int64_t begin, int64_t end) const {
    for (int64_t e = begin; e < end; ++e) {
      const int64_t from = division_.channels_last ? e % p_.taps() * p_.in_c + e / p_.taps() : e;
      T sum = partial_[from];
      for (int64_t chunk = 1; chunk < division_.chunks.parts; ++chunk)
        sum += partial_[chunk * p_.weight_elements() + from];
      w_[e] = sum;
    }
  }

  int64_t items() const { return division_.chunks.parts * channels_.parts; }
  bool channels_last() const { return division_.channels_last; }

 private:
  // Slice of x that tap td of result slice d reads, or -1.
  int64_t slice(int64_t d, int64_t td) const {
    const int64_t z = d * p_.d().stride + td * p_.d().dilation - p_.d().pad_lo;
    return z < p_.d().in ? std::max<int64_t>(z, -1) : -1;
  }

  const ConvProblem& p_;
  const Division division_;
  const Copy copy_;
  const Split channels_;         // of the results of an item, NCHW
  const int64_t most_channels_;  // channels whose sums a thread holds
  const DepthwiseKernel<T>& kernel_;
  const T *x_, *y_;
  T *w_, *partial_, *lanes_, *copies_;
  int64_t* column_;
};

}  // namespace

Support depthwise_sums_supports(const ConvProblem& p, const Machine& machine) {
  if (p.layout == Layout::nhwc) {
    if (p.out_c_group() != 1) return {"weight gradients with channels last need 1 output channel per group"};
    return {};
  }
  if (!reads_in_place(machine))
    return {cat("weight gradients need masked loads, which ", name_of(machine.isa), " lacks")};
  if (p.w().stride > 2) return {cat("weight gradients need a stride of 1 or 2 along the width, here ", p.w().stride)};
  return {};
}

void prepare_depthwise_sums(ConvPlan& plan) {
  plan.workspace_bytes = visit_dtype(plan.problem.dtype, [&](auto zero) {
    using T = decltype(zero);
    Carver carver(nullptr);
    carver.take<T>(SumsRun<T>::partial_elements(plan));
    carver.take<T>(SumsRun<T>::lane_elements(plan));
    carver.take<int64_t>(plan.problem.w().kernel);
    carver.take<T>(SumsRun<T>::copy_elements(plan));
    return carver.used();
  });
}

void run_depthwise_sums(const ConvPlan& plan, const ConvOperands& operands, std::byte* workspace,
                        Interrupt& interrupt) {
  visit_dtype(plan.problem.dtype, [&](auto zero) {
    const SumsRun<decltype(zero)> run(plan, operands, workspace);
    parallel_for(run.items(), plan.threads, interrupt, [&](int64_t item, int thread) {
      run.channels_last() ? run.channels_item(item, thread, interrupt) : run.planes_item(item, thread, interrupt);
    });
    const Split parts{plan.problem.weight_elements(), plan.threads};
    parallel_for(parts.parts, plan.threads, interrupt,
                 [&](int64_t part, int) { run.sum_chunks(parts.begin(part), parts.begin(part + 1)); });
  });
}

}  // namespace fastconv
