// One window of a pooling along one axis, cut to the input. Plain numbers: the ISA files include this.
#pragma once

#include <stdint.h>

namespace fastconv {

struct Window {
  int64_t first;   // input position of the first tap that lies inside
  int64_t taps;    // taps inside, a dilation apart
  int64_t extent;  // length that an average counting the padding divides by
};

}  // namespace fastconv
