#include "parallel.h"

#include <cstdlib>

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

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

#if defined(_OPENMP)
std::atomic<bool> forked{false};

void watch_forks() {
#if defined(__unix__) || defined(__APPLE__)
  static const int registered = pthread_atfork(nullptr, nullptr, [] { forked.store(true); });
  (void)registered;
#endif
}
#endif

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

#if defined(_OPENMP)
bool detail::on_threads(int count, void (*range)(const void* context, int i), const void* context) {
  if (omp_in_parallel() || forked.load(std::memory_order_relaxed)) return false;
  watch_forks();
#pragma omp parallel num_threads(count)
  {
    // The runtime may grant fewer threads than asked for: each then takes several ranges.
    const int granted = omp_get_num_threads();
    for (int i = omp_get_thread_num(); i < count; i += granted) range(context, i);
  }
  return true;
}
#else
bool detail::on_threads(int, void (*)(const void*, int), const void*) { return false; }
#endif

}  // namespace fastconv
