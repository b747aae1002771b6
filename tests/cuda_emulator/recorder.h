// Between emulator.cpp, which runs, and counters.cpp, which counts.
#pragma once

namespace emulator {

int linear_thread();  // of the running thread, in its block
void begin_launch(const char* name);
void settle_records();  // turns the accesses of the block that ended into counts

}  // namespace emulator
