// Threads; OpenMP itself is named in parallel.cpp only, the one file that a build without it compiles otherwise.
//
// One parallel region per call, a static partition, never nested. A long call can be interrupted: between two
// items every thread looks at a flag, and the calling thread asks the caller's `poll` every 20 ms.
// After fork() the child runs serially: the thread pool of libgomp does not survive a fork, and waiting for it hangs.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

namespace fastconv {

// Threads that a call uses at most: set_num_threads, else OMP_NUM_THREADS, else the machine's cores.
int get_num_threads();
void set_num_threads(int threads);
const char* parallel_runtime();  // "OpenMP 4.5" and the like, or "none"

// Whether the call has been interrupted. `poll` returns true to stop; it runs on the calling thread only.
class Interrupt {
 public:
  using Poll = bool (*)();
  explicit Interrupt(Poll poll = nullptr) : poll_(poll), next_(poll ? Clock::now() + kEvery : Clock::time_point()) {}
  bool stopped() const { return stopped_.load(std::memory_order_relaxed); }
  void check() {
    if (!poll_ || Clock::now() < next_) return;
    if (poll_()) stopped_.store(true, std::memory_order_relaxed);
    next_ = Clock::now() + kEvery;
  }
  // Inside an item that takes long: whether to leave it.
  bool stop_here(int thread) {
    if (thread == 0) check();
    return stopped();
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr auto kEvery = std::chrono::milliseconds(20);
  Poll poll_;
  Clock::time_point next_;
  std::atomic<bool> stopped_{false};
};

namespace detail {
// Runs range(context, i) for i in [0, count) on as many threads at once; false, with nothing run, where they cannot be
// had: without OpenMP, inside another such call, after a fork.
bool on_threads(int count, void (*range)(const void* context, int i), const void* context);

template <class F>
void run_range(int64_t begin, int64_t end, int thread, Interrupt& interrupt, const F& f) {
  for (int64_t item = begin; item < end && !interrupt.stopped(); ++item) {
    f(item, thread);
    if (thread == 0) interrupt.check();
  }
}
}  // namespace detail

// f(item, thread) for every item; thread t of `threads` gets those in [begin(t), begin(t + 1)).
// f must not throw. Which thread runs an item must not change its result.
template <class Begin, class F>
void parallel_shares(int threads, Interrupt& interrupt, const Begin& begin, const F& f) {
  const auto range = [&](int i) { detail::run_range(begin(i), begin(i + 1), i, interrupt, f); };
  const auto call = [](const void* context, int i) { (*static_cast<const decltype(range)*>(context))(i); };
  if (threads > 1 && detail::on_threads(threads, call, &range)) return;
  detail::run_range(begin(0), begin(threads), 0, interrupt, f);
}

// The same for items in [0, items) that take equally long.
template <class F>
void parallel_for(int64_t items, int threads, Interrupt& interrupt, const F& f) {
  threads = static_cast<int>(std::min<int64_t>(threads, items));
  const auto begin = [=](int i) { return threads > 0 ? items * i / threads : 0; };
  parallel_shares(threads, interrupt, begin, f);
}

}  // namespace fastconv
