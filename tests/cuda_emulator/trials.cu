#include "trials.h"

#include "../../cuda/kernels/memory.cuh"
#include "../../cuda/launch.h"

namespace {

using namespace fastconv::cuda;

constexpr uint32_t kAll = 0xffffffffu;

int thread() { return static_cast<int>(threadIdx.x); }
float* floats() { return reinterpret_cast<float*>(shared_memory()); }

using Trial = void (*)(const float* a, const float* b, float* out);

// ---- instructions ----
void block_sum(const float* a, const float*, float* out) {
  float sum = a[thread()];
  for (int flip = 16; flip > 0; flip /= 2) sum += __shfl_xor_sync(kAll, sum, flip);
  if (thread() % 32 == 0) floats()[thread() / 32] = sum;
  __syncthreads();
  if (thread() == 0) out[0] = floats()[0] + floats()[1];
}

void votes(const float* a, const float*, float* out) {
  const uint32_t odd = __ballot_sync(kAll, a[thread()] > 0);
  const float down = __shfl_down_sync(kAll, a[thread()], 1), first = __shfl_sync(kAll, a[thread()], 0);
  out[thread()] = static_cast<float>(odd & 0xffffu) + 0.5f * down + first;
}

void atomics(const float* a, const float*, float* out) {
  if (thread() == 0) out[0] = 0;
  __syncthreads();
  atomicAdd(out, a[thread()]);
}

void half_blocks(const float* a, const float*, float* out) {  // each warp meets only itself
  const int warp = thread() / 32;
  floats()[thread()] = a[thread()];
#ifdef FASTCONV_EMULATED
  ::emulator::named_barrier(1 + warp, 32, {});
#endif
  out[thread()] = floats()[warp * 32 + 31 - thread() % 32];
}

template <class T>
uint32_t pair(float low, float high) {
  return uint32_t{ptx::narrow<T>(low).bits} | uint32_t{ptx::narrow<T>(high).bits} << 16;
}

// out[16][8] = a[16][16] b[16][8], through shared memory and ldmatrix for a; turned, its transpose lies there.
template <class T, bool kTurned = false>
void matrix_16(const float* a, const float* b, float* out) {
  auto* const rows = reinterpret_cast<uint16_t*>(shared_memory());
  for (int at = thread(); at < 256; at += 32) rows[kTurned ? at % 16 * 16 + at / 16 : at] = ptx::narrow<T>(a[at]).bits;
  __syncthreads();
  const int group = thread() / 4, member = thread() % 4, matrix = thread() / 8;
  uint32_t left[4], right[2];
  if (kTurned)
    ptx::load_matrices_turned(left, rows + (thread() % 8 + matrix / 2 * 8) * 16 + matrix % 2 * 8);
  else
    ptx::load_matrices(left, rows + (thread() % 8 + matrix % 2 * 8) * 16 + matrix / 2 * 8);
  for (int i = 0; i < 2; ++i)
    right[i] = pair<T>(b[(member * 2 + 8 * i) * 8 + group], b[(member * 2 + 8 * i + 1) * 8 + group]);
  float c[4] = {0, 0, 0, 0};
  ptx::multiply(c, left, right, T{});
  for (int i = 0; i < 4; ++i) out[(group + i / 2 * 8) * 8 + member * 2 + i % 2] = c[i];
}

// out[16][8] = a[16][8] b[8][8]
void matrix_tf32(const float* a, const float* b, float* out) {
  const int group = thread() / 4, member = thread() % 4;
  uint32_t left[4], right[2];
  for (int i = 0; i < 4; ++i) left[i] = ptx::to_tf32(a[(group + i % 2 * 8) * 8 + member + i / 2 * 4]);
  for (int i = 0; i < 2; ++i) right[i] = ptx::to_tf32(b[(member + 4 * i) * 8 + group]);
  float c[4] = {0, 0, 0, 0};
  ptx::multiply_tf32(c, left, right);
  for (int i = 0; i < 4; ++i) out[(group + i / 2 * 8) * 8 + member * 2 + i % 2] = c[i];
}

void round_trip_half(const float* a, const float*, float* out) {
  out[thread()] = ptx::widen(ptx::narrow<half16>(a[thread()]));
}
void round_trip_bfloat(const float* a, const float*, float* out) {
  out[thread()] = ptx::widen(ptx::narrow<bfloat16>(a[thread()]));
}
void round_trip_tf32(const float* a, const float*, float* out) {
  out[thread()] = ptx::as_float(ptx::to_tf32(a[thread()]));
}

// Every second float of a, zeros between them.
void copies(const float* a, const float*, float* out) {
  ptx::copy_async<4>(floats() + thread(), a + thread(), thread() % 2 == 0);
  ptx::commit_copies();
  ptx::wait_copies<0>();
  __syncthreads();
  out[thread()] = floats()[63 - thread()];
}

// ---- counts ----
template <int stride>
void strided(const float* a, const float*, float* out) {
  store_shared(floats() + thread() * stride % 1024, load_global(a + thread() * stride % 64));
  __syncthreads();
  store_global(out + thread(), load_shared(floats() + thread() * stride % 1024));
}

void wide(const float* a, const float*, float* out) {
  store_shared(reinterpret_cast<float4*>(floats()) + thread(), float4{1, 2, 3, 4});
  __syncthreads();
  out[thread()] = load_shared(reinterpret_cast<const float4*>(floats()) + thread()).y + a[0];
}

// ---- mistakes ----
void missing_thread(const float*, const float*, float* out) {
  if (thread() == 5) return;
  __syncthreads();
  out[thread()] = 1;
}
void two_places(const float*, const float*, float* out) {
  if (thread() < 7)
    __syncthreads();
  else
    __syncthreads();
  out[thread()] = 1;
}
void missing_lane(const float* a, const float*, float* out) {
  float value = a[thread()];
  if (thread() % 32 != 3) value = __shfl_xor_sync(kAll, value, 1);
  out[thread()] = value;
}
void wrong_mask(const float* a, const float*, float* out) { out[thread()] = __shfl_sync(1u, a[thread()], 0); }
void no_barrier(const float* a, const float*, float* out) {
  floats()[thread()] = a[thread()];
  out[thread()] = floats()[63 - thread()];
}
void no_wait(const float* a, const float*, float* out) {
  ptx::copy_async<4>(floats() + thread(), a + thread(), true);
  ptx::commit_copies();
  out[thread()] = floats()[thread()];
}
void misaligned(const float* a, const float*, float* out) {
  out[thread()] = load_global(reinterpret_cast<const float4*>(a + 1)).x;
}
void beyond_shared(const float* a, const float*, float* out) {
  floats()[1024 + thread()] = a[thread()];
  out[thread()] = 1;
}

// What products of a warpgroup and barriers of bulk copies must refuse.
template <int shift, bool fenced>
void group_product(const float*, const float*, float* out) {
  float c[64] = {};
  if (fenced) ptx::group_fence();
  const uint32_t at = (ptx::shared_address(floats()) + 1023) / 1024 * 1024 + shift;
  ptx::group_multiply(c, ptx::matrix_descriptor(at), ptx::matrix_descriptor(at), half16{});
  out[thread()] = c[0];
}
void fence_of_the_last_group(const float*, const float*, float* out) {
  float c[64] = {};
  ptx::group_fence();
  ptx::group_commit();
  const uint64_t operand = ptx::matrix_descriptor((ptx::shared_address(floats()) + 1023) / 1024 * 1024);
  ptx::group_multiply(c, operand, operand, half16{});
  out[thread()] = c[0];
}
void fence_of_some(const float*, const float*, float*) {
  if (thread() < 64) ptx::group_fence();
  ptx::group_commit();
}
void no_barrier_init(const float*, const float*, float*) {
  ptx::barrier_wait(reinterpret_cast<uint64_t*>(floats()), 0);
}
void missing_arrival(const float*, const float*, float*) {
  auto* const barrier = reinterpret_cast<uint64_t*>(floats());
  if (thread() == 0) ptx::barrier_init(barrier, 3);
  __syncthreads();
  if (thread() < 2) ptx::barrier_arrive(barrier);
  ptx::barrier_wait(barrier, 0);
}

struct Row {
  const char* name;
  Trial kernel;
  unsigned threads;
};

constexpr Row kTrials[] = {
    {"block_sum", block_sum, 64},
    {"votes", votes, 64},
    {"atomics", atomics, 64},
    {"half_blocks", half_blocks, 64},
    {"matrix_half", matrix_16<half16>, 32},
    {"matrix_half_turned", matrix_16<half16, true>, 32},
    {"matrix_bfloat", matrix_16<bfloat16>, 32},
    {"matrix_tf32", matrix_tf32, 32},
    {"round_trip_half", round_trip_half, 64},
    {"round_trip_bfloat", round_trip_bfloat, 64},
    {"round_trip_tf32", round_trip_tf32, 64},
    {"copies", copies, 64},
    {"stride_1", strided<1>, 32},
    {"stride_2", strided<2>, 32},
    {"stride_32", strided<32>, 32},
    {"wide", wide, 32},
    {"missing_thread", missing_thread, 64},
    {"two_places", two_places, 64},
    {"missing_lane", missing_lane, 64},
    {"wrong_mask", wrong_mask, 64},
    {"no_barrier", no_barrier, 64},
    {"no_wait", no_wait, 64},
    {"misaligned", misaligned, 64},
    {"beyond_shared", beyond_shared, 64},
    {"group_beyond", group_product<0, true>, 128},
    {"group_misaligned", group_product<128, true>, 128},
    {"group_unfenced", group_product<0, false>, 128},
    {"fence_of_the_last_group", fence_of_the_last_group, 128},
    {"fence_of_some", fence_of_some, 128},
    {"no_barrier_init", no_barrier_init, 32},
    {"missing_arrival", missing_arrival, 32},
};

}  // namespace

pybind11::array_t<float> run_trial(const std::string& name, const TrialArray& a, const TrialArray& b, int length) {
  for (const Row& row : kTrials)
    if (name == row.name) {
      pybind11::array_t<float> out(length);
      launch(row.name, row.kernel, 1, row.threads, 1024 * sizeof(float), Stream{}, a.data(), b.data(),
             out.mutable_data());
      return out;
    }
  throw fastconv::InvalidArgument("no trial of the name " + name);
}
