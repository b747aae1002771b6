// Memory with a forbidden page before and after it, placed flush against one of them.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace guard {

enum class Flush { front, back };  // against the page before, or the page after

//   | forbidden | data ........ slack | forbidden |     Flush::front
//   | forbidden | slack ........ data | forbidden |     Flush::back
//
// Slack and data start as bytes 0xFF, which is a NaN in every floating-point type: what is read without having been
// written shows in the result, and what is written outside shows in the slack.
class Memory {
 public:
  Memory(size_t bytes, size_t alignment, Flush flush) : bytes_(bytes) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    inner_bytes_ = (bytes + page - 1) / page * page;
    if (inner_bytes_ == 0) inner_bytes_ = page;
    whole_bytes_ = inner_bytes_ + 2 * page;
    void* const whole = mmap(nullptr, whole_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (whole == MAP_FAILED) fail("mmap");
    whole_ = static_cast<unsigned char*>(whole);
    inner_ = whole_ + page;
    if (mprotect(inner_, inner_bytes_, PROT_READ | PROT_WRITE) != 0) fail("mprotect");
    std::memset(inner_, kCanary, inner_bytes_);
    const size_t room = inner_bytes_ - bytes;
    data_ = inner_ + (flush == Flush::front ? 0 : room / alignment * alignment);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { munmap(whole_, whole_bytes_); }

  unsigned char* data() const { return data_; }
  size_t bytes() const { return bytes_; }

  bool slack_untouched() const {
    for (const unsigned char* p = inner_; p < inner_ + inner_bytes_; ++p) {
      if (p == data_) p += bytes_;
      if (p < inner_ + inner_bytes_ && *p != kCanary) return false;
    }
    return true;
  }

 private:
  static constexpr unsigned char kCanary = 0xFF;
  [[noreturn]] static void fail(const char* what) {
    std::perror(what);
    std::exit(3);
  }
  unsigned char *whole_, *inner_, *data_;
  size_t bytes_, inner_bytes_, whole_bytes_;
};

}  // namespace guard
