// Pooling on the CPU. Each function returns false when it was interrupted.
#pragma once

#include "../core/pool_problem.h"
#include "parallel.h"

namespace fastconv {

// y from x; for a maximum also its flat index in the plane, unless `index` is null.
bool run_pool(const PoolProblem& problem, const void* x, void* y, int64_t* index, Interrupt::Poll poll);

// The gradient of an average with respect to x from that with respect to y.
bool run_average_gradient(const PoolProblem& problem, const void* grad_y, void* grad_x, Interrupt::Poll poll);

// The position of the first index that lies outside its plane, or -1. Nothing below checks again.
int64_t find_bad_index(const PlaceProblem& problem, const int64_t* index);

// Planes of zeros with each value at its index. Where several values meet, `add` sums them (the gradient of a maximum)
// and otherwise the last one stays (max unpooling).
bool run_place(const PlaceProblem& problem, const int64_t* index, const void* values, void* targets, bool add,
               Interrupt::Poll poll);

// The other way: the value at each index (the gradient of max unpooling).
bool run_take(const PlaceProblem& problem, const int64_t* index, const void* targets, void* values,
              Interrupt::Poll poll);

}  // namespace fastconv
