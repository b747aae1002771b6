// The checks that every operation on batches of images shares: ranks, extents, numbers per axis, overflow.
// Every message starts with the operation and names the argument, what came and what was expected.
#pragma once

#include "problem.h"

namespace fastconv {

// (batch,) channels and space in the order of the layout
inline Shape arranged(Layout layout, bool unbatched, int64_t batch, int64_t channels, int spatial,
                      const std::array<int64_t, 3>& space) {
  Shape shape;
  if (!unbatched) shape.push_back(batch);
  if (layout == Layout::nchw) shape.push_back(channels);
  for (int i = 3 - spatial; i < 3; ++i) shape.push_back(space[i]);
  if (layout == Layout::nhwc) shape.push_back(channels);
  return shape;
}

struct Checks {
  const char* op;
  int spatial;
  DType dtype;
  Layout layout;

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw InvalidArgument(cat(op, ": ", parts...));
  }

  // Channel and spatial extents of an activation array, whatever its layout; batch is 1 for an unbatched one.
  struct Extents {
    int64_t batch, channels;
    std::array<int64_t, 3> space;
    bool unbatched;
  };

  Extents extents(const Shape& shape, const char* name) const {
    const size_t axes = spatial, rank = shape.size();
    if (rank != axes + 1 && rank != axes + 2)
      fail(name, " has shape ", shape_text(shape), ": expected ", axes + 2, " axes (batched) or ", axes + 1,
           " (unbatched)");
    Extents e{1, 0, {1, 1, 1}, rank == axes + 1};
    const size_t first = e.unbatched ? 0 : 1;
    if (!e.unbatched) e.batch = shape[0];
    const bool last = layout == Layout::nhwc;
    e.channels = shape[last ? rank - 1 : first];
    for (size_t i = 0; i < axes; ++i) e.space[3 - axes + i] = shape[first + (last ? 0 : 1) + i];
    if (e.batch < 0) fail(name, " has shape ", shape_text(shape), ": expected a batch size of 0 or more");
    if (e.channels < 1) fail(name, " has shape ", shape_text(shape), ": expected at least 1 channel");
    for (int64_t extent : e.space)
      if (extent < 1) fail(name, " has shape ", shape_text(shape), ": expected spatial sizes of at least 1");
    byte_count(shape, name);
    return e;
  }

  void byte_count(const Shape& shape, const char* name) const {
    int64_t bytes = size_of(dtype);
    // An axis of 0 must not hide that the other extents overflow.
    for (int64_t extent : shape) bytes = checked_mul(bytes, extent > 0 ? extent : 1, name);
  }

  int64_t per_axis(const Shape& values, int axis, const char* name, int64_t least) const {
    if (values.size() != 1 && values.size() != static_cast<size_t>(spatial))
      fail(name, "=", shape_text(values), ": expected 1 or ", spatial, " numbers");
    const int64_t value = values.size() == 1 ? values[0] : values[axis];
    if (value < least) fail(name, "=", value, ": expected at least ", least);
    if (value > kMaxExtent) fail("size overflow: ", name, "=", value, " is beyond 2^60");
    return value;
  }

  std::array<int64_t, 2> pads(const std::vector<std::array<int64_t, 2>>& padding, int axis) const {
    if (padding.size() != 1 && padding.size() != static_cast<size_t>(spatial))
      fail("padding has ", padding.size(), " entries: expected 1 or ", spatial);
    const auto pair = padding.size() == 1 ? padding[0] : padding[axis];
    for (int64_t value : pair) {
      if (value < 0) fail("padding=", value, ": expected at least 0");
      if (value > kMaxExtent) fail("size overflow: padding=", value, " is beyond 2^60");
    }
    return pair;
  }
};

}  // namespace fastconv
