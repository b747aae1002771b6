// What stands between the convolutions of a network, on a GPU: each function queues one launch and returns. Arrays are
// device memory, C-contiguous, aligned as their elements are; y may be x in run_relu and run_softmax.
#pragma once

#include <span>

#include "../csrc/core/axis.h"
#include "element.h"
#include "launch.h"

namespace fastconv::cuda {

// y = max(x, 0); NaN stays NaN.
void run_relu(Element element, int64_t count, const void* x, void* y, Stream& stream);

// exp(x) / sum(exp(x)) over the middle axis of (outer, along, inner), or its logarithm. Sums are in float32, of float64
// in float64, in an order that depends on `along` alone.
void run_softmax(Element element, int64_t outer, int64_t along, int64_t inner, bool logarithm, const void* x, void* y,
                 Stream& stream);

enum class Border : uint8_t { constant, reflect, replicate, circular };

// One axis of an array: its extent and what is added before and after it, less than nothing where it is cut.
struct PaddedAxis {
  int64_t size = 1, before = 0, after = 0;
  int64_t out() const { return size + before + after; }
};

// y of the extents out(). Throws Unsupported for more than 8 axes that differ in being padded.
void run_pad(Element element, std::span<const PaddedAxis> axes, Border mode, double value, const void* x, void* y,
             Stream& stream);

}  // namespace fastconv::cuda
