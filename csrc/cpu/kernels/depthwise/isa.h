// Which of the tiles an ISA has.
#pragma once

#include "../../simd.h"

namespace {

// Whether tiles unrolled for common filters are worth their size. The baseline of x86-64 is for processors older than
// AVX2: there the general tiles do.
#if defined(__AVX2__) || defined(__aarch64__)
constexpr bool kTuned = true;
#else
constexpr bool kTuned = false;
#endif

}  // namespace
