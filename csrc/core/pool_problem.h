// PoolProblem and PlaceProblem: what a pooling call asks, and nothing about how it is done.
//
// Pooling takes one value out of each window of each channel:
//   x [batch, channels, in d h w]  ->  y [batch, channels, out d h w]
// Its gradient goes the other way. That of the average needs the windows. That of the maximum needs only to know where
// each value came from, and so does max unpooling: both place values by their flat index in a plane (PlaceProblem).
#pragma once

#include "problem.h"

namespace fastconv {

enum class PoolKind : uint8_t { max, average };

// A call as the user spelled it, before anything is checked.
struct PoolSpec {
  const char* op = "max_pool2d";
  PoolKind kind = PoolKind::max;
  int spatial = 2;
  DType dtype = DType::float32;
  Layout layout = Layout::nchw;
  // Adaptive pooling has output_size and nothing of the rest; kSameSize stands for None.
  bool adaptive = false;
  Shape output_size;
  Shape kernel{1}, dilation{1};
  std::optional<Shape> stride;  // absent: the kernel
  std::vector<std::array<int64_t, 2>> padding{{0, 0}};
  PadMode pad_mode = PadMode::explicit_pads;
  bool pad_pairs = false;  // pads given as (lo, hi) may reach the kernel's size, others half of it
  bool ceil_mode = false, count_include_pad = true, indices = false;
  std::optional<int64_t> divisor_override;
  Shape x_shape;
  const char* x_name = "x";
  std::optional<Shape> y_shape;  // grad_output of a gradient
};

constexpr int64_t kSameSize = INT64_MIN;

struct PoolProblem {
  PoolKind kind = PoolKind::max;
  DType dtype = DType::float32;
  Layout layout = Layout::nchw;
  bool unbatched = false, count_include_pad = true;
  int spatial = 2;
  int64_t batch = 0, channels = 0;
  int64_t divisor = 0;  // divisor_override, or 0
  std::array<Axis, 3> axes;
  std::array<bool, 3> adaptive{};  // axes whose windows are not evenly spaced; others are ordinary

  static PoolProblem make(const PoolSpec& spec);

  Window window(int axis, int64_t o) const {
    return adaptive[axis] ? adaptive_window(axes[axis].in, axes[axis].out, o) : window_at(axes[axis], o);
  }
  const Axis& d() const { return axes[0]; }
  const Axis& h() const { return axes[1]; }
  const Axis& w() const { return axes[2]; }
  int64_t planes() const { return batch * channels; }
  int64_t in_pixels() const { return axes[0].in * axes[1].in * axes[2].in; }
  int64_t out_pixels() const { return axes[0].out * axes[1].out * axes[2].out; }
  // One window that is the whole plane.
  bool global() const;
  Shape x_shape() const { return arranged_by(&Axis::in); }
  Shape y_shape() const { return arranged_by(&Axis::out); }

 private:
  Shape arranged_by(int64_t Axis::* extent) const;
};

struct PlaceSpec {
  const char* op = "grad.max_pool2d";
  int spatial = 2;
  DType dtype = DType::float32;
  Layout layout = Layout::nchw;
  Shape values_shape, indices_shape;
  const char* values_name = "grad_output";
  // The planes that the indices point into: given whole, or derived by unpooling from the rest.
  std::optional<Shape> target_shape;
  const char* target_name = "input_size";
  Shape kernel{1};
  std::optional<Shape> stride;
  std::vector<std::array<int64_t, 2>> padding{{0, 0}};
  std::optional<Shape> output_size;  // spatial, or the whole shape
};

struct PlaceProblem {
  DType dtype = DType::float32;
  Layout layout = Layout::nchw;
  int64_t batch = 0, channels = 0;
  int64_t values = 0, targets = 0;  // per plane
  Shape values_shape, target_shape;

  static PlaceProblem make(const PlaceSpec& spec);
};

}  // namespace fastconv
