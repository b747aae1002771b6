// A fiber: a stack of its own and a way to switch to it and back. On x86-64 a dozen instructions (ucontext makes a
// system call at each switch); elsewhere ucontext. AddressSanitizer is told of each switch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/common_interface_defs.h>
#define FIBER_ASAN 1
#endif
#endif

namespace emulator {

#if defined(__x86_64__)
extern "C" void fastconv_switch_fiber(void** save, void* take);
#endif

class Fiber {
 public:
#ifdef FIBER_ASAN
  static constexpr size_t kStack = 256 << 10;
#else
  static constexpr size_t kStack = 64 << 10;
#endif

  // The `number`-th fiber: its stack begins at other lines of a page than its neighbours', since hundreds of stacks
  // that begin alike would share a few sets of the cache.
  explicit Fiber(size_t number) : shift_(number * 5 % 64 * 64) {}

  // Makes the fiber ready to run entry(), which must end with leave(true) and never return.
  void start(void (*entry)()) {
    if (!stack_) stack_.reset(new std::byte[kStack]);
#if defined(__x86_64__)
    auto** top =
        reinterpret_cast<void**>((reinterpret_cast<uintptr_t>(stack_.get()) + kStack - shift_) & ~uintptr_t{63});
    *--top = nullptr;                         // keeps the alignment a called function expects
    *--top = reinterpret_cast<void*>(entry);  // the return address of the first switch
    for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
    own_ = top;
#else
    getcontext(&own_);
    own_.uc_stack.ss_sp = stack_.get();
    own_.uc_stack.ss_size = kStack;
    own_.uc_link = nullptr;
    makecontext(&own_, entry, 0);
#endif
  }

  // From the scheduler: runs the fiber until it leaves.
  void enter() {
#ifdef FIBER_ASAN
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, stack_.get(), kStack);
#endif
#if defined(__x86_64__)
    fastconv_switch_fiber(&caller_, own_);
#else
    swapcontext(&caller_, &own_);
#endif
#ifdef FIBER_ASAN
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
  }

  // First thing in entry().
  void entered() {
#ifdef FIBER_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &caller_stack_, &caller_bytes_);
#endif
  }

  // From inside: back to the scheduler.
  void leave([[maybe_unused]] bool for_good = false) {
#ifdef FIBER_ASAN
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(for_good ? nullptr : &fake, caller_stack_, caller_bytes_);
#endif
#if defined(__x86_64__)
    fastconv_switch_fiber(&own_, caller_);
#else
    swapcontext(&own_, &caller_);
#endif
#ifdef FIBER_ASAN
    __sanitizer_finish_switch_fiber(fake, &caller_stack_, &caller_bytes_);
#endif
  }

 private:
  std::unique_ptr<std::byte[]> stack_;
  [[maybe_unused]] size_t shift_;
#if defined(__x86_64__)
  void *own_ = nullptr, *caller_ = nullptr;
#else
  ucontext_t own_, caller_;
#endif
#ifdef FIBER_ASAN
  const void* caller_stack_ = nullptr;
  size_t caller_bytes_ = 0;
#endif
};

}  // namespace emulator
