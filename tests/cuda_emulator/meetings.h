// Waiting, for instructions that are emulated outside of emulator.cpp.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "emulator.h"
#include "recorder.h"

namespace emulator {

// Threads that wait for something to change.
class Waiters {
 public:
  void wait(const char* what, Site site);
  void release();  // lets all of them go on

 private:
  std::vector<void*> threads_;
};

// One state of a type for the block under way, fresh in each block.
std::shared_ptr<void>& block_state();
template <class State>
State& of_block() {
  std::shared_ptr<void>& held = block_state();
  if (!held) held = std::make_shared<State>();
  return *static_cast<State*>(held.get());
}

}  // namespace emulator
