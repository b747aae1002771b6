// Pooling and flattening on a GPU: the counterpart of csrc/cpu/pool.h. Each function queues launches on the stream and
// returns; arrays are device memory, contiguous in the problem's layout, aligned as their elements are. No function
// needs workspace.
//
// `element` is what the arrays hold; the problem's own dtype is not read. Sums are in float32, of float64 in float64.
#pragma once

#include "../csrc/core/pool_problem.h"
#include "element.h"
#include "launch.h"

namespace fastconv::cuda {

// y from x; for a maximum also its flat index in the plane, unless `index` is null. Throws Unsupported for extents of
// 2^30 and more.
void run_pool(const PoolProblem& problem, Element element, const void* x, void* y, int64_t* index, Stream& stream);

// The gradient of an average with respect to x from that with respect to y.
void run_average_gradient(const PoolProblem& problem, Element element, const void* grad_y, void* grad_x,
                          Stream& stream);

// *bad, device memory, becomes the position of the first index outside its plane, or -1. Nothing below checks again.
void find_bad_index(const PlaceProblem& problem, const int64_t* index, int64_t* bad, Stream& stream);

// Planes of zeros with each value at its index. Where several values meet, `add` sums them (the gradient of a maximum)
// and otherwise the last one stays (max unpooling). The order of the sum is fixed.
void run_place(const PlaceProblem& problem, Element element, const int64_t* index, const void* values, void* targets,
               bool add, Stream& stream);

// The other way: the value at each index (the gradient of max unpooling).
void run_take(const PlaceProblem& problem, Element element, const int64_t* index, const void* targets, void* values,
              Stream& stream);

// dst[image][column][row] = src[image][row][column]: flattening NHWC arrays in the order of NCHW (rows = pixels,
// columns = channels), and its gradient with the two exchanged.
void run_transpose(Element element, int64_t images, int64_t rows, int64_t columns, const void* src, void* dst,
                   Stream& stream);

}  // namespace fastconv::cuda
