#include "parallel.h"

#include <cstdlib>
#include <mutex>
#include <string>

#include "machine.h"

namespace fastconv {
namespace {

std::atomic<int> chosen_threads{0};  // 0: not set, take the default

int default_threads() {
  static const int threads = [] {
    const int cores = this_machine().cores;
    // OMP_NUM_THREADS may be a list, one number per nesting level: the first one counts.
    const char* text = std::getenv("OMP_NUM_THREADS");
    const int asked = text ? std::atoi(text) : 0;
    return asked > 0 ? std::min(asked, cores) : cores;
  }();
  return threads;
}

}  // namespace

int get_num_threads() {
  const int chosen = chosen_threads.load(std::memory_order_relaxed);
  return chosen > 0 ? chosen : default_threads();
}

void set_num_threads(int threads) { chosen_threads.store(threads, std::memory_order_relaxed); }

const char* parallel_runtime() {
#if defined(_OPENMP)
  return "OpenMP";
#else
  return "none";
#endif
}

void detail::watch_forks() {
#if defined(__unix__) || defined(__APPLE__)
  static const int registered = pthread_atfork(nullptr, nullptr, [] { forked.store(true); });
  (void)registered;
#endif
}

}  // namespace fastconv
