// Fibers, meetings and asynchronous copies; the counting is in counters.cpp.
#include "emulator.h"

#include <cstring>
#include <exception>
#include <memory>
#include <sstream>
#include <vector>

#include "fiber.h"
#include "meetings.h"

#if defined(__x86_64__)
// rdi: where the stack pointer of the one who leaves is kept; rsi: the stack pointer of the one who goes on.
asm(R"(
.text
.globl fastconv_switch_fiber
.hidden fastconv_switch_fiber
.type fastconv_switch_fiber, @function
fastconv_switch_fiber:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size fastconv_switch_fiber, .-fastconv_switch_fiber
)");
#endif

namespace emulator {
namespace {

struct Copy {
  void* dst;
  const void* src;
  int bytes, valid;
  Site site;
};

struct Thread {
  explicit Thread(size_t number) : fiber(number) {}
  Fiber fiber;
  Index index;
  int linear = 0;
  bool done = false;
  const char* waits_for = nullptr;
  Site waits_at;
  std::vector<std::vector<Copy>> committed;
  std::vector<Copy> issued;
};

// Threads that wait for each other at a barrier, and lanes of a warp under a mask.
struct Meeting {
  Site site;
  int expected = 0, count = 0;
  std::vector<Thread*> waiting;
};

struct WarpMeeting {
  WarpMeeting() {}  // leaves the arrays as they are: each is written before it is read
  const char* what;
  Site site;
  uint32_t mask, arrived;
  int count;
  Thread* waiting[32];
  const void* in[32];
  void* out[32];
};

struct Block {
  Index grid, extent, index;
  std::unique_ptr<std::byte[]> shared;
  size_t shared_bytes = 0;
  std::vector<Thread*> threads, ready;
  std::map<int, Meeting> barriers;              // by barrier id
  std::vector<std::vector<WarpMeeting>> warps;  // open meetings of each warp
  std::shared_ptr<void> state;                  // of_block
  std::exception_ptr error;
  const std::function<void()>* body = nullptr;
  Thread* current = nullptr;
  uint32_t random = 1;

  // Below `end`: xorshift, quick and random enough to shuffle threads.
  size_t draw(size_t end) {
    random ^= random << 13, random ^= random >> 17, random ^= random << 5;
    return static_cast<size_t>(uint64_t{random} * end >> 32);
  }
};

Block* block = nullptr;

std::vector<std::unique_ptr<Thread>>& pool() {
  static std::vector<std::unique_ptr<Thread>> threads;
  return threads;
}

void thread_main() {
  Thread& self = *block->current;
  self.fiber.entered();
  try {
    (*block->body)();
  } catch (...) {
    if (!block->error) block->error = std::current_exception();
  }
  self.done = true;
  self.fiber.leave(true);
}

void wait_here(const char* what, Site site) {
  Thread& self = *block->current;
  self.waits_for = what;
  self.waits_at = site;
  self.fiber.leave();
  self.waits_for = nullptr;
}

void release(Meeting& meeting) {
  for (Thread* thread : meeting.waiting) block->ready.push_back(thread);
}

std::string thread_name(const Thread& t) {
  std::ostringstream text;
  text << "thread (" << t.index.x << ", " << t.index.y << ", " << t.index.z << ")";
  return text.str();
}

// Nothing can run, not everything is done: says who waits where, and what one missing thread does instead.
[[noreturn]] void report_deadlock() {
  std::ostringstream text;
  const Thread *waiter = nullptr, *other = nullptr;
  for (const Thread* t : block->threads)
    if (!t->done && !waiter) waiter = t;
  int together = 0;
  for (const Thread* t : block->threads) {
    const bool same = !t->done && t->waits_for == waiter->waits_for && same_place(t->waits_at, waiter->waits_at);
    together += same;
    if (!same && !other) other = t;
  }
  text << to_string(waiter->waits_at) << ": " << waiter->waits_for << " is reached by " << together << " of "
       << block->threads.size() << " threads of block (" << block->index.x << ", " << block->index.y << ", "
       << block->index.z << ") and waits for ever";
  if (other) {
    text << "; " << thread_name(*other);
    if (other->done)
      text << " has returned";
    else
      text << " waits for " << other->waits_for << " at " << to_string(other->waits_at);
  }
  throw EmulationError(text.str());
}

void run_block() {
  const size_t count = size_t{block->extent.x} * block->extent.y * block->extent.z;
  block->barriers.clear();
  block->state.reset();
  block->warps.assign((count + 31) / 32, {});
  block->ready = block->threads;
  for (Thread* t : block->threads) {
    t->done = false;
    t->issued.clear();
    t->committed.clear();
    t->fiber.start(thread_main);
  }
  // A fresh heap block each time, so that AddressSanitizer watches its ends; all ones is NaN in every float format.
  block->shared.reset(new std::byte[block->shared_bytes]);
  std::memset(block->shared.get(), 0xff, block->shared_bytes);
  size_t left = count;
  while (left > 0) {
    if (block->ready.empty()) report_deadlock();
    std::swap(block->ready[block->draw(block->ready.size())], block->ready.back());
    block->current = block->ready.back();
    block->ready.pop_back();
    block->current->fiber.enter();
    if (block->error) std::rethrow_exception(block->error);
    left -= block->current->done;
  }
  ++running().blocks;
  if (options().counting) settle_records();
}

void perform(const Copy& copy) {
  if (copy.valid == 4) {  // by far the most
    std::memcpy(copy.dst, copy.src, 4);
    std::memset(static_cast<std::byte*>(copy.dst) + 4, 0, static_cast<size_t>(copy.bytes) - 4);
    return;
  }
  std::memset(copy.dst, 0, static_cast<size_t>(copy.bytes));
  if (copy.valid > 0) std::memcpy(copy.dst, copy.src, static_cast<size_t>(copy.valid));
}

}  // namespace

std::string to_string(Site site) {
  const char* const slash = std::strrchr(site.file, '/');
  return std::string(slash ? slash + 1 : site.file) + ":" + std::to_string(site.line);
}

Index thread_index() { return block->current->index; }
Index block_index() { return block->index; }
Index block_extent() { return block->extent; }
Index grid_extent() { return block->grid; }
int lane() { return block->current->linear % 32; }
int linear_thread() { return block->current->linear; }
std::byte* shared_memory() { return block->shared.get(); }
size_t shared_bytes() { return block->shared_bytes; }

bool is_shared(const void* address) {
  const auto* const byte = static_cast<const std::byte*>(address);
  return byte >= block->shared.get() && byte < block->shared.get() + block->shared_bytes;
}

void fail(Site site, const std::string& what) {
  std::string where = block ? ", " + thread_name(*block->current) : "";
  throw EmulationError(to_string(site) + ": " + what + where);
}

void run_grid(const char* name, Index grid, Index extent, size_t shared_bytes, const std::function<void()>& body) {
  if (block) throw EmulationError("a kernel launched from inside a kernel");
  Block own;
  own.grid = grid;
  own.extent = extent;
  own.shared_bytes = shared_bytes;
  own.body = &body;
  own.random = static_cast<uint32_t>(options().seed + 1) * 0x9e3779b9u | 1u;
  begin_launch(name);
  const size_t count = size_t{extent.x} * extent.y * extent.z;
  while (pool().size() < count) pool().push_back(std::make_unique<Thread>(pool().size()));
  for (size_t i = 0; i < count; ++i) {
    Thread* t = pool()[i].get();
    t->linear = static_cast<int>(i);
    t->index = {static_cast<unsigned>(i % extent.x), static_cast<unsigned>(i / extent.x % extent.y),
                static_cast<unsigned>(i / extent.x / extent.y)};
    own.threads.push_back(t);
  }
  struct Leave {
    ~Leave() { block = nullptr; }
  } leave;
  block = &own;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        own.index = {x, y, z};
        try {
          run_block();
        } catch (const EmulationError& error) {
          throw EmulationError(std::string(name) + ": " + error.what());
        }
      }
}

void named_barrier(int id, int threads, Site site) {
  Meeting& meeting = block->barriers[id];
  if (meeting.count > 0 && !same_place(meeting.site, site))
    fail(site, "threads meet at one barrier from two places, the other at " + to_string(meeting.site));
  meeting.site = site;
  meeting.expected = threads;
  meeting.waiting.push_back(block->current);
  if (++meeting.count == meeting.expected) {
    ++running().barriers;
    release(meeting);
    meeting.waiting.clear();
    meeting.count = 0;
  }
  wait_here(id == 0 ? "__syncthreads" : "named barrier", site);
}

void Waiters::wait(const char* what, Site site) {
  threads_.push_back(block->current);
  wait_here(what, site);
}

void Waiters::release() {
  for (void* thread : threads_) block->ready.push_back(static_cast<Thread*>(thread));
  threads_.clear();
}

std::shared_ptr<void>& block_state() { return block->state; }

void block_barrier(Site site) { named_barrier(0, static_cast<int>(block->threads.size()), site); }

void warp_meet(const char* what, uint32_t mask, const void* in, void* out, WarpFunction compute, Site site) {
  const int linear = block->current->linear;
  const uint32_t bit = uint32_t{1} << (linear % 32);
  if (!(mask & bit)) fail(site, std::string(what) + ": the mask does not name the calling lane");
  const size_t first = static_cast<size_t>(linear / 32) * 32, live = block->threads.size() - first;
  if (live < 32 && (mask >> live)) fail(site, std::string(what) + ": the mask names lanes beyond the end of the block");
  auto& open = block->warps[static_cast<size_t>(linear / 32)];
  size_t at = 0;
  while (at < open.size() && !(open[at].mask & mask)) ++at;
  if (at == open.size()) {
    open.emplace_back();
    WarpMeeting& made = open.back();  // what is not set here is set as lanes arrive
    made.what = what, made.site = site, made.mask = mask, made.arrived = 0, made.count = 0;
  }
  WarpMeeting& meeting = open[at];
  if (meeting.mask != mask || !same_place(meeting.site, site))
    fail(site, std::string(what) + ": lanes of one warp meet under different masks or from two places, the other at " +
                   to_string(meeting.site));
  meeting.in[linear % 32] = in;
  meeting.out[linear % 32] = out;
  meeting.arrived |= bit;
  if (meeting.arrived != mask) {
    meeting.waiting[meeting.count++] = block->current;
    wait_here(what, site);
    return;
  }
  if (compute) compute(mask, meeting.in, meeting.out);
  block->ready.insert(block->ready.end(), meeting.waiting, meeting.waiting + meeting.count);
  if (at + 1 < open.size()) meeting = open.back();
  open.pop_back();
}

void copy_async(void* dst, const void* src, int bytes, int valid, Site site) {
  if (bytes != 4 && bytes != 8 && bytes != 16) fail(site, "cp.async copies 4, 8 or 16 bytes");
  if (valid < 0 || valid > bytes) fail(site, "cp.async: more valid bytes than bytes");
  if (!is_shared(dst)) fail(site, "cp.async: the destination is not in shared memory");
  check_aligned(dst, static_cast<size_t>(bytes), site);
  check_aligned(src, static_cast<size_t>(bytes), site);
  ++running().async_copies;
  record(Access::shared_store, dst, bytes, site);
  if (valid > 0) record(Access::global_load, src, valid, site);
  const Copy copy{dst, src, bytes, valid, site};
  if (options().lazy_copies)
    block->current->issued.push_back(copy);
  else
    perform(copy);
}

void commit_copies() {
  Thread& self = *block->current;
  self.committed.push_back(std::move(self.issued));
  self.issued.clear();
}

void wait_copies(int groups_left) {
  auto& groups = block->current->committed;
  while (groups.size() > static_cast<size_t>(groups_left)) {
    for (const Copy& copy : groups.front()) perform(copy);
    groups.erase(groups.begin());
  }
}

}  // namespace emulator
