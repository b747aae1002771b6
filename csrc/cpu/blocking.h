// Cache sizes -> block sizes: all the numbers of the loop nests, and where they come from.
#pragma once

#include <cstdint>

namespace fastconv {

struct Blocking {
};

}  // namespace fastconv
