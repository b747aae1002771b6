#include "ptx_emulated.h"
#pragma GCC optimize("O3")  // tests spend much of their time here

#include <cmath>
#include <cstring>

#include "../../cuda/kernels/numbers.cuh"

namespace emulator {
namespace {

constexpr uint32_t kWarp = 0xffffffffu;

struct Fragments {
  float c[4];
  uint32_t a[4], b[2];
};

double half_value(uint32_t pair, int which) {
  return fastconv::cuda::host::widen(fastconv::cuda::half16{static_cast<uint16_t>(pair >> 16 * which)});
}
double bfloat_value(uint32_t pair, int which) {
  return fastconv::cuda::host::widen(fastconv::cuda::bfloat16{static_cast<uint16_t>(pair >> 16 * which)});
}
double tf32_value(uint32_t bits) { return fastconv::cuda::float_of(bits & 0xffffe000u); }

// From 16 x depth and depth x 8 to the accumulators of the 32 lanes.
template <int depth>
void multiply(const double (&a)[16][depth], const double (&b)[depth][8], const void* const in[32],
              void* const out[32]) {
  double sums[16][8];
  const auto row_of = [](int lane, int i) { return lane / 4 + 8 * (i / 2); };
  const auto column_of = [](int lane, int i) { return lane % 4 * 2 + i % 2; };
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i)
      sums[row_of(lane, i)][column_of(lane, i)] = static_cast<const Fragments*>(in[lane])->c[i];
  for (int row = 0; row < 16; ++row) {
    double sum[8];
    std::memcpy(sum, sums[row], sizeof sum);
    for (int k = 0; k < depth; ++k)
      for (int column = 0; column < 8; ++column) sum[column] += a[row][k] * b[k][column];
    std::memcpy(sums[row], sum, sizeof sum);
  }
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i)
      static_cast<float*>(out[lane])[i] = toward_zero(sums[row_of(lane, i)][column_of(lane, i)]);
  ++running().mma;
}

template <double (*value)(uint32_t, int)>
void multiply_16(uint32_t, const void* const in[32], void* const out[32]) {
  double a[16][16], b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& f = *static_cast<const Fragments*>(in[lane]);
    const int group = lane / 4, member = lane % 4;
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < 4; ++i) a[group + 8 * (i % 2)][member * 2 + 8 * (i / 2) + half] = value(f.a[i], half);
      for (int i = 0; i < 2; ++i) b[member * 2 + 8 * i + half][group] = value(f.b[i], half);
    }
  }
  multiply<16>(a, b, in, out);
}

void multiply_8(uint32_t, const void* const in[32], void* const out[32]) {
  double a[16][8], b[8][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& f = *static_cast<const Fragments*>(in[lane]);
    const int group = lane / 4, member = lane % 4;
    for (int i = 0; i < 4; ++i) a[group + 8 * (i % 2)][member + 4 * (i / 2)] = tf32_value(f.a[i]);
    for (int i = 0; i < 2; ++i) b[member + 4 * i][group] = tf32_value(f.b[i]);
  }
  multiply<8>(a, b, in, out);
}

Fragments fragments(const float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  Fragments f;
  std::memcpy(f.c, c, sizeof c);
  std::memcpy(f.a, a, sizeof a);
  std::memcpy(f.b, b, sizeof b);
  return f;
}

void move_matrices(uint32_t, const void* const in[32], void* const out[32]) {
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) {
      const auto* const row = static_cast<const char*>(in[8 * i + lane / 4]);
      std::memcpy(static_cast<uint32_t*>(out[lane]) + i, row + 4 * (lane % 4), 4);
    }
  ++running().ldmatrix;
}

void move_turned_matrices(uint32_t, const void* const in[32], void* const out[32]) {
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i)
      for (int half = 0; half < 2; ++half) {
        const auto* const row = static_cast<const char*>(in[8 * i + lane % 4 * 2 + half]);
        std::memcpy(static_cast<char*>(out[lane]) + 4 * i + 2 * half, row + 2 * (lane / 4), 2);
      }
  ++running().ldmatrix;
}

}  // namespace

float toward_zero(double exact) {
  const float near = static_cast<float>(exact);
  if (std::isinf(near) || std::isnan(near)) return near;
  const bool beyond = std::fabs(static_cast<double>(near)) > std::fabs(exact);
  return fastconv::cuda::float_of(fastconv::cuda::bits_of(near) - beyond);  // one step toward zero
}

void load_matrices(uint32_t (&d)[4], const void* row, bool turned, Site site) {
  if (!is_shared(row)) fail(site, "ldmatrix: the row is not in shared memory");
  check_aligned(row, 16, site);
  record(Access::shared_load, row, 16, site);
  warp_meet("ldmatrix", kWarp, row, d, turned ? move_turned_matrices : move_matrices, site);
}

void multiply_halves(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], bool bfloat, Site site) {
  const Fragments f = fragments(c, a, b);
  warp_meet("mma", kWarp, &f, c, bfloat ? multiply_16<bfloat_value> : multiply_16<half_value>, site);
}

void multiply_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site) {
  const Fragments f = fragments(c, a, b);
  warp_meet("mma", kWarp, &f, c, multiply_8, site);
}

uint32_t to_tf32(float value) {
  const uint32_t bits = fastconv::cuda::bits_of(value);
  if ((bits & 0x7f800000u) == 0x7f800000u) return bits;
  return (bits + 0x1000u) & 0xffffe000u;
}

}  // namespace emulator
