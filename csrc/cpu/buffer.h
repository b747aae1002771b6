// Aligned memory, overflow-checked, and a small store of workspaces to use again.
//
// A workspace is taken per call. Fresh memory costs a page fault per 4 KB, more than many a small convolution, so
// a returned workspace is kept for the next call that fits in it. Bounded: at most kKept, each at most kKeptBytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <utility>

namespace fastconv {

constexpr size_t kAlignment = 64;  // a cache line, and the widest vector

constexpr size_t align_up(size_t bytes) { return (bytes + kAlignment - 1) & ~(kAlignment - 1); }

class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t bytes) : bytes_(align_up(bytes)) {
    if (bytes_ < bytes) throw std::bad_alloc();  // align_up wrapped
    if (bytes_ == 0) return;
    data_ = ::operator new(bytes_, std::align_val_t{kAlignment});
  }
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Buffer() {
    if (data_) ::operator delete(data_, std::align_val_t{kAlignment});
  }
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// A Buffer borrowed from the store for the length of a call.
class Workspace {
 public:
  explicit Workspace(size_t bytes) {
    if (bytes == 0) return;
    {
      const std::lock_guard lock(store().mutex);
      for (Buffer& kept : store().kept)
        if (kept.bytes() >= bytes) {
          buffer_ = std::move(kept);
          kept = Buffer();
          return;
        }
    }
    buffer_ = Buffer(bytes);
  }
  Workspace(const Workspace&) = delete;
  ~Workspace() {
    if (buffer_.bytes() == 0 || buffer_.bytes() > kKeptBytes) return;
    const std::lock_guard lock(store().mutex);
    Buffer* least = &store().kept[0];
    for (Buffer& kept : store().kept)
      if (kept.bytes() < least->bytes()) least = &kept;
    if (least->bytes() < buffer_.bytes()) *least = std::move(buffer_);
  }
  std::byte* data() const { return static_cast<std::byte*>(buffer_.data()); }

 private:
  static constexpr int kKept = 4;
  static constexpr size_t kKeptBytes = size_t{32} << 20;
  struct Store {
    std::mutex mutex;
    Buffer kept[kKept];
  };
  static Store& store() {
    // Never destroyed: a thread may still be in a call while the process exits.
    static Store* const instance = new Store;
    return *instance;
  }
  Buffer buffer_;
};

// Cuts a workspace into pieces: the same calls in the same order measure it (base null) and lay it out.
class Carver {
 public:
  explicit Carver(std::byte* base) : base_(base) {}
  template <class T>
  T* take(int64_t count) {
    std::byte* const piece = base_ ? base_ + used_ : nullptr;
    used_ += align_up(static_cast<size_t>(count) * sizeof(T));
    return reinterpret_cast<T*>(piece);
  }
  size_t used() const { return used_; }

 private:
  std::byte* base_;
  size_t used_ = 0;
};

}  // namespace fastconv
