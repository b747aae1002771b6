#include "hopper_emulated.h"

#include <cstring>
#include <map>
#include <vector>

#include "../../cuda/kernels/numbers.cuh"
#include "meetings.h"
#include "ptx_emulated.h"

namespace emulator {
namespace {

constexpr uint32_t kSharedStart = 128, kRow = 128, kChunk = 16;

struct Pending {
  std::byte* dst;
  TensorMap map;
  int at[4], offset[2];
};

struct Barrier {
  int arrivals = 0, missing = 0;
  int64_t bytes = 0;  // expected and not there yet
  unsigned phase = 0;
  std::vector<Pending> copies;
  Waiters waiters;
};

struct Product {
  float* c[128];
  int n;
  uint64_t a, b;
  bool bfloat;
};

// A warpgroup: its 128 threads meet at each instruction, and the last one acts for all.
struct Group {
  void* brought[128];
  const char* what = nullptr;
  Site site;
  int count = 0;
  Waiters waiters;
  bool fenced = false;  // since the last commit: each group of products begins with a fence
  std::vector<Product> issued;
  std::vector<std::vector<Product>> committed;
};

// Of the block under way.
struct State {
  std::map<const void*, Barrier> barriers;
  std::map<int, Group> groups;
};

State& state() { return of_block<State>(); }

std::byte* shared_at(uint32_t address) { return shared_memory() + (address - kSharedStart); }
Group& my_group() { return state().groups[linear_thread() / 128]; }
uint32_t swizzled(uint32_t address) { return address ^ (address >> 7 & 7u) << 4; }

Barrier& known(uint64_t* barrier, Site site) {
  const auto found = state().barriers.find(barrier);
  if (found == state().barriers.end()) fail(site, "an mbarrier is used before it is initialised");
  return found->second;
}

void settle(Barrier& b) {
  if (b.missing > 0 || b.bytes != 0) return;
  ++b.phase, b.missing = b.arrivals;
  b.waiters.release();
}

// Element (channels, first axis, ...) of a tensor, or null outside.
const std::byte* element(const TensorMap& m, const int64_t (&at)[4]) {
  const auto* from = static_cast<const std::byte*>(m.base) + at[0] * m.element_bytes;
  for (int i = 0; i < m.axes; ++i) {
    if (at[i] < 0 || at[i] >= m.extent[i]) return nullptr;
    if (i > 0) from += at[i] * m.stride[i - 1];
  }
  return from;
}

void write_row(const TensorMap& m, const int64_t (&place)[4], uint32_t row) {
  for (int c = 0; c < m.box[0]; ++c) {
    int64_t at[4] = {place[0] + c, place[1], place[2], place[3]};
    std::byte* const to = shared_at(swizzled(row + static_cast<uint32_t>(c * m.element_bytes)));
    const std::byte* const from = element(m, at);
    if (from)
      std::memcpy(to, from, static_cast<size_t>(m.element_bytes));
    else
      std::memset(to, 0, static_cast<size_t>(m.element_bytes));
  }
}

int64_t box_bytes(const TensorMap& m) { return int64_t{m.box[0]} * m.box[1] * m.box[2] * m.element_bytes; }

void perform(const Pending& p) {
  const TensorMap& m = p.map;
  uint32_t row = shared_address(p.dst);
  if (!m.im2col) {
    for (int j = 0; j < m.box[2]; ++j)
      for (int i = 0; i < m.box[1]; ++i, row += kRow) {
        const int64_t place[4] = {p.at[0], p.at[1] + i, p.at[2] + j, 0};
        write_row(m, place, row);
      }
    return;
  }
  int64_t w = p.at[1], h = p.at[2], n = p.at[3];
  for (int i = 0; i < m.box[1]; ++i, row += kRow) {
    const int64_t place[4] = {p.at[0], w + p.offset[0], h + p.offset[1], n};
    write_row(m, place, row);
    w += m.step[0];
    if (w < m.extent[1] + m.upper[0]) continue;
    w = m.lower[0], h += m.step[1];
    if (h < m.extent[2] + m.upper[1]) continue;
    h = m.lower[1], ++n;
  }
}

template <class F>
void meet(const char* what, void* mine, Site site, const F& act) {
  Group& g = my_group();
  if (g.count > 0 && (g.what != what || !same_place(g.site, site)))
    fail(site, std::string(what) + ": threads of one warpgroup are at different instructions, others at " +
                   to_string(g.site));
  g.what = what, g.site = site, g.brought[linear_thread() % 128] = mine;
  if (++g.count < 128) return g.waiters.wait(what, site);
  g.count = 0;
  act(g);
  g.waiters.release();
}

double value_of(const std::byte* at, bool bfloat) {
  uint16_t bits;
  std::memcpy(&bits, at, 2);
  return bfloat ? fastconv::cuda::host::widen(fastconv::cuda::bfloat16{bits})
                : fastconv::cuda::host::widen(fastconv::cuda::half16{bits});
}

// Row r of an operand: its 16 elements in double. Rows are 128 bytes apart in groups of 8, which are `apart` apart.
void read_operand(uint64_t descriptor, int rows, bool bfloat, std::vector<double>& out) {
  const uint32_t start = static_cast<uint32_t>(descriptor & 0x3fff) << 4,
                 apart = static_cast<uint32_t>(descriptor >> 32 & 0x3fff) << 4;
  out.resize(static_cast<size_t>(rows) * 16);
  for (int r = 0; r < rows; ++r)
    for (int k = 0; k < 16; ++k) {
      const uint32_t at = start + static_cast<uint32_t>(r / 8) * apart + static_cast<uint32_t>(r % 8) * kRow +
                          static_cast<uint32_t>(k) * 2;
      out[static_cast<size_t>(r * 16 + k)] = value_of(shared_at(swizzled(at)), bfloat);
    }
}

void multiply(const Product& p) {
  std::vector<double> a, b;
  read_operand(p.a, 64, p.bfloat, a);
  read_operand(p.b, p.n, p.bfloat, b);
  for (int thread = 0; thread < 128; ++thread)
    for (int i = 0; i < p.n / 2; ++i) {
      const int row = thread / 32 * 16 + thread % 32 / 4 + i % 4 / 2 * 8, column = i / 4 * 8 + thread % 4 * 2 + i % 2;
      double sum = static_cast<double>(p.c[thread][i]);
      for (int k = 0; k < 16; ++k)
        sum += a[static_cast<size_t>(row * 16 + k)] * b[static_cast<size_t>(column * 16 + k)];
      p.c[thread][i] = toward_zero(sum);
    }
}

void check_descriptor(uint64_t descriptor, int rows, Site site) {
  const uint32_t start = static_cast<uint32_t>(descriptor & 0x3fff) << 4,
                 apart = static_cast<uint32_t>(descriptor >> 32 & 0x3fff) << 4;
  if (descriptor >> 62 != 1) fail(site, "wgmma: the descriptor does not say the swizzle of 128 bytes");
  if (descriptor >> 49 & 7) fail(site, "wgmma: the descriptor has a base offset");
  if (start % 1024 >= kRow) fail(site, "wgmma: the operand does not begin at a multiple of 1024 bytes");
  if (apart % 1024) fail(site, "wgmma: groups of 8 rows are not a multiple of 1024 bytes apart");
  const uint64_t end = uint64_t{start} / kRow * kRow + uint64_t(rows / 8 - 1) * apart + 1024;
  if (start < kSharedStart || end > kSharedStart + shared_bytes())
    fail(site, "wgmma: the operand is not in shared memory");
}

}  // namespace

uint32_t shared_address(const void* at) {
  return kSharedStart + static_cast<uint32_t>(static_cast<const std::byte*>(at) - shared_memory());
}

void barrier_init(uint64_t* barrier, int arrivals, Site site) {
  if (!is_shared(barrier)) fail(site, "an mbarrier is not in shared memory");
  check_aligned(barrier, 8, site);
  if (arrivals < 1) fail(site, "an mbarrier needs an arrival");
  Barrier& b = state().barriers[barrier];
  b = {};
  b.arrivals = b.missing = arrivals;
}

void barrier_arrive(uint64_t* barrier, int64_t expected_bytes, Site site) {
  Barrier& b = known(barrier, site);
  if (b.missing == 0) fail(site, "more threads arrive at an mbarrier than it was initialised for");
  b.bytes += expected_bytes;
  --b.missing;
  settle(b);
}

void barrier_wait(uint64_t* barrier, int parity, Site site) {
  Barrier& b = known(barrier, site);
  for (;;) {
    std::vector<Pending> now = std::move(b.copies);
    b.copies.clear();
    for (const Pending& p : now) perform(p), b.bytes -= box_bytes(p.map);
    if (!now.empty()) settle(b);
    if ((b.phase & 1u) != static_cast<unsigned>(parity)) return;
    b.waiters.wait("mbarrier", site);
  }
}

void copy_box(void* dst, const TensorMap& map, const int (&at)[4], const int (&offset)[2], uint64_t* barrier,
              Site site) {
  Barrier& b = known(barrier, site);
  for (const int along : offset)
    if (along < 0 || along > 255) fail(site, "a bulk copy's offset of " + std::to_string(along) + " is beyond 8 bits");
  if (!is_shared(dst)) fail(site, "a bulk copy does not go to shared memory");
  if (shared_address(dst) % 1024) fail(site, "the box of a swizzled bulk copy does not begin at 1024 bytes");
  if (shared_address(dst) + static_cast<size_t>(box_bytes(map)) > kSharedStart + shared_bytes())
    fail(site, "a bulk copy goes beyond the end of shared memory");
  Pending p{static_cast<std::byte*>(dst), map, {at[0], at[1], at[2], at[3]}, {offset[0], offset[1]}};
  if (options().lazy_copies) {
    b.copies.push_back(p);
    b.waiters.release();  // whoever waits already makes it happen
    return;
  }
  perform(p);
  b.bytes -= box_bytes(map);
  settle(b);
}

void group_fence(Site site) {
  meet("wgmma.fence", nullptr, site, [](Group& g) { g.fenced = true; });
}

void group_multiply(float* c, int n, uint64_t a, uint64_t b, bool bfloat, Site site) {
  if (n % 8 || n < 8 || n > 256) fail(site, "wgmma: n is a multiple of 8 up to 256");
  if (!my_group().fenced) fail(site, "wgmma without a fence before it");
  check_descriptor(a, 64, site);
  check_descriptor(b, n, site);
  meet("wgmma", c, site, [&](Group& g) {
    Product p{{}, n, a, b, bfloat};
    for (int i = 0; i < 128; ++i) p.c[i] = static_cast<float*>(g.brought[i]);
    ++running().mma;
    if (options().lazy_copies)
      g.issued.push_back(p);
    else
      multiply(p);
  });
}

void group_commit(Site site) {
  meet("wgmma.commit_group", nullptr, site, [](Group& g) {
    g.committed.push_back(std::move(g.issued));
    g.issued.clear();
    g.fenced = false;
  });
}

void group_wait(int left, Site site) {
  meet("wgmma.wait_group", nullptr, site, [&](Group& g) {
    while (g.committed.size() > static_cast<size_t>(left)) {
      for (const Product& p : g.committed.front()) multiply(p);
      g.committed.erase(g.committed.begin());
    }
  });
}

}  // namespace emulator
