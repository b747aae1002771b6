// The two ways of forward pooling.
#pragma once

#include "../pool.h"

namespace fastconv::cuda {

// A thread per few results.
void pool_by_windows(const PoolProblem& problem, Element element, const void* x, void* y, int64_t* index,
                     Stream& stream);

// A block's threads share one window, the whole plane.
void pool_whole_planes(const PoolProblem& problem, Element element, const void* x, void* y, int64_t* index,
                       Stream& stream);

}  // namespace fastconv::cuda
