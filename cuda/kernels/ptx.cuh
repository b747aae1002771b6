// All PTX of the project: one function per instruction, each with a device body and a body for the emulator
// (tests/cuda_emulator), which does the same on the host and checks what the hardware would not tell.
//
// Fragments follow "Matrix Fragments for mma.m16n8k8 / m16n8k16" of the PTX ISA, 8.x. With group = lane / 4 and
// member = lane % 4, an accumulator of 16 x 8 holds, per lane,
//   c0 (group, 2 member)   c1 (group, 2 member + 1)   c2 (group + 8, 2 member)   c3 (group + 8, 2 member + 1)
#pragma once

#include "numbers.cuh"

#ifdef FASTCONV_EMULATED
#include "hopper_emulated.h"
#include "ptx_emulated.h"
#define FASTCONV_HAS_WGMMA
#define FASTCONV_GRID_CONSTANT
#define FASTCONV_SITE , ::emulator::Site site = {}
#define FASTCONV_SITE_ONLY ::emulator::Site site = {}
#define FASTCONV_PASS_SITE , site
#else
#ifdef __CUDA_ARCH_FEAT_SM90_ALL  // compiled for sm_90a
#define FASTCONV_HAS_WGMMA
#endif
#define FASTCONV_GRID_CONSTANT __grid_constant__
#define FASTCONV_SITE
#define FASTCONV_SITE_ONLY
#define FASTCONV_PASS_SITE
#endif

namespace fastconv::cuda::ptx {

// ---- asynchronous copies, global to shared ----
// Copies `bytes` (4, 8 or 16, aligned to it); where not `valid`, nothing is read and zeros are written.
template <int bytes>
__device__ __forceinline__ void copy_async(void* dst, const void* src, bool valid FASTCONV_SITE) {
#ifdef FASTCONV_EMULATED
  ::emulator::copy_async(dst, src, bytes, valid ? bytes : 0, site);
#else
  const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(dst));
  const int read = valid ? bytes : 0;
  if constexpr (bytes == 16)  // past L1: these are whole rows, read once per block
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(src), "r"(read) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;\n" ::"r"(to), "l"(src), "n"(bytes), "r"(read)
                 : "memory");
#endif
}

__device__ __forceinline__ void commit_copies() {
#ifdef FASTCONV_EMULATED
  ::emulator::commit_copies();
#else
  asm volatile("cp.async.commit_group;\n" ::: "memory");
#endif
}

// Waits until at most `left` of the committed groups are under way.
template <int left>
__device__ __forceinline__ void wait_copies() {
#ifdef FASTCONV_EMULATED
  ::emulator::wait_copies(left);
#else
  asm volatile("cp.async.wait_group %0;\n" ::"n"(left) : "memory");
#endif
}

// ---- matrices ----
// Four 8 x 8 matrices of 16-bit elements. Lane 8 i + r names row r of matrix i (16 bytes); matrix i goes to d[i],
// where a lane holds elements (group, 2 member) and (group, 2 member + 1).
__device__ __forceinline__ void load_matrices(uint32_t (&d)[4], const void* row FASTCONV_SITE) {
#ifdef FASTCONV_EMULATED
  ::emulator::load_matrices(d, row, false, site);
#else
  const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"(at)
               : "memory");
#endif
}

// The same, each matrix turned: a lane holds elements (2 member, group) and (2 member + 1, group).
__device__ __forceinline__ void load_matrices_turned(uint32_t (&d)[4], const void* row FASTCONV_SITE) {
#ifdef FASTCONV_EMULATED
  ::emulator::load_matrices(d, row, true, site);
#else
  const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"(at)
               : "memory");
#endif
}

// c += a b; a 16 x 16, b 16 x 8, two 16-bit elements per register, c in float.
__device__ __forceinline__ void multiply(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                         half16 FASTCONV_SITE) {
#ifdef FASTCONV_EMULATED
  ::emulator::multiply_halves(c, a, b, false, site);
#else
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

__device__ __forceinline__ void multiply(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                         bfloat16 FASTCONV_SITE) {
#ifdef FASTCONV_EMULATED
  ::emulator::multiply_halves(c, a, b, true, site);
#else
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// c += a b; a 16 x 8, b 8 x 8, elements are floats of which the hardware reads the upper 19 bits.
__device__ __forceinline__ void multiply_tf32(float (&c)[4], const uint32_t (&a)[4],
                                              const uint32_t (&b)[2] FASTCONV_SITE) {
#ifdef FASTCONV_EMULATED
  ::emulator::multiply_tf32(c, a, b, site);
#else
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// ---- Hopper (compute capability 9.0, compiled for sm_90a): bulk copies, barriers, products of a warpgroup ----
#ifdef FASTCONV_EMULATED
using TensorMap = ::emulator::TensorMap;
#else
struct alignas(64) TensorMap {  // what cuTensorMapEncode* writes
  unsigned char opaque[128];
};
#endif

// Where shared memory has this address, for descriptors.
__device__ __forceinline__ uint32_t shared_address(const void* at) {
#ifdef FASTCONV_EMULATED
  return ::emulator::shared_address(at);
#else
  return static_cast<uint32_t>(__cvta_generic_to_shared(at));
#endif
}

__device__ __forceinline__ void barrier_init(uint64_t* barrier, int arrivals FASTCONV_SITE) {
#ifdef FASTCONV_EMULATED
  ::emulator::barrier_init(barrier, arrivals, site);
#else
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
#endif
}

// Makes initialised barriers known to bulk copies; other threads learn of them by __syncthreads.
__device__ __forceinline__ void publish_barriers() {
#ifndef FASTCONV_EMULATED
  asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
#endif
}

__device__ __forceinline__ void barrier_arrive(uint64_t* barrier FASTCONV_SITE) {
#ifdef FASTCONV_EMULATED
  ::emulator::barrier_arrive(barrier, 0, site);
#else
  asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];\n" ::"r"(shared_address(barrier)) : "memory");
#endif
}

// Arrives, and lets the phase also wait for this many bytes of bulk copies.
__device__ __forceinline__ void barrier_expect(uint64_t* barrier, int bytes FASTCONV_SITE) {
#ifdef FASTCONV_EMULATED
  ::emulator::barrier_arrive(barrier, bytes, site);
#else
  asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;\n" ::"r"(shared_address(barrier)),
               "r"(bytes)
               : "memory");
#endif
}

// Until the phase of this parity is over; of a fresh barrier that of parity 1 is.
__device__ __forceinline__ void barrier_wait(uint64_t* barrier, int parity FASTCONV_SITE) {
#ifdef FASTCONV_EMULATED
  ::emulator::barrier_wait(barrier, parity, site);
#else
  asm volatile(
      "{\n.reg .pred done;\nagain:\n"
      "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n}\n" ::"r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
#endif
}

// A box of a tiled map of three axes, its rows of 128 bytes swizzled.
__device__ __forceinline__ void copy_box(void* dst, const TensorMap& map, int c, int row, int plane,
                                         uint64_t* barrier FASTCONV_SITE) {
#ifdef FASTCONV_EMULATED
  ::emulator::copy_box(dst, map, {c, row, plane, 0}, {0, 0}, barrier, site);
#else
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];\n" ::
          "r"(shared_address(dst)),
      "l"(&map), "r"(c), "r"(row), "r"(plane), "r"(shared_address(barrier))
      : "memory");
#endif
}

// Pixels of an im2col map, from place (w, h) of image n on, each taken at an offset of (ow, oh).
__device__ __forceinline__ void copy_pixels(void* dst, const TensorMap& map, int c, int w, int h, int n, int ow, int oh,
                                            uint64_t* barrier FASTCONV_SITE) {
#ifdef FASTCONV_EMULATED
  ::emulator::copy_box(dst, map, {c, w, h, n}, {ow, oh}, barrier, site);
#else
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4, %5}], [%6], {%7, %8};\n" ::"r"(shared_address(dst)),
      "l"(&map), "r"(c), "r"(w), "r"(h), "r"(n), "r"(shared_address(barrier)), "h"(static_cast<uint16_t>(ow)),
      "h"(static_cast<uint16_t>(oh))
      : "memory");
#endif
}

// Of an operand whose rows are 128 bytes, swizzled, 8 of them in 1024 bytes.
__device__ __forceinline__ uint64_t matrix_descriptor(uint32_t address) {
  return uint64_t{(address & 0x3ffffu) >> 4} | uint64_t{1} << 16 | uint64_t{1024 >> 4} << 32 | uint64_t{1} << 62;
}

// Before the first product of a warpgroup, and after its registers were written.
__device__ __forceinline__ void group_fence(FASTCONV_SITE_ONLY) {
#ifdef FASTCONV_EMULATED
  ::emulator::group_fence(site);
#else
  asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
#endif
}
__device__ __forceinline__ void group_commit(FASTCONV_SITE_ONLY) {
#ifdef FASTCONV_EMULATED
  ::emulator::group_commit(site);
#else
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
#endif
}

// c += a b of 64 x 128 x 16, by descriptors; lane layout as of the accumulators above, 64 rows over the four warps.
#ifndef FASTCONV_EMULATED
#define FASTCONV_GROUP_MULTIPLY(types)                                                                                 \
  asm volatile(                                                                                                        \
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." types                                                             \
      " "                                                                                                              \
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, "     \
      "%23, "                                                                                                          \
      "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, " \
      "%46, %47, "                                                                                                     \
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, %64, %65, 1, 1, 1, 0, 0;\n"    \
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]), "+f"(c[6]), "+f"(c[7]), "+f"(c[8]),    \
        "+f"(c[9]), "+f"(c[10]), "+f"(c[11]), "+f"(c[12]), "+f"(c[13]), "+f"(c[14]), "+f"(c[15]), "+f"(c[16]),         \
        "+f"(c[17]), "+f"(c[18]), "+f"(c[19]), "+f"(c[20]), "+f"(c[21]), "+f"(c[22]), "+f"(c[23]), "+f"(c[24]),        \
        "+f"(c[25]), "+f"(c[26]), "+f"(c[27]), "+f"(c[28]), "+f"(c[29]), "+f"(c[30]), "+f"(c[31]), "+f"(c[32]),        \
        "+f"(c[33]), "+f"(c[34]), "+f"(c[35]), "+f"(c[36]), "+f"(c[37]), "+f"(c[38]), "+f"(c[39]), "+f"(c[40]),        \
        "+f"(c[41]), "+f"(c[42]), "+f"(c[43]), "+f"(c[44]), "+f"(c[45]), "+f"(c[46]), "+f"(c[47]), "+f"(c[48]),        \
        "+f"(c[49]), "+f"(c[50]), "+f"(c[51]), "+f"(c[52]), "+f"(c[53]), "+f"(c[54]), "+f"(c[55]), "+f"(c[56]),        \
        "+f"(c[57]), "+f"(c[58]), "+f"(c[59]), "+f"(c[60]), "+f"(c[61]), "+f"(c[62]), "+f"(c[63])                      \
      : "l"(a), "l"(b))
#endif
__device__ __forceinline__ void group_multiply(float (&c)[64], uint64_t a, uint64_t b, half16 FASTCONV_SITE) {
#ifdef FASTCONV_EMULATED
  ::emulator::group_multiply(c, 128, a, b, false, site);
#else
  FASTCONV_GROUP_MULTIPLY("f16.f16");
#endif
}
__device__ __forceinline__ void group_multiply(float (&c)[64], uint64_t a, uint64_t b, bfloat16 FASTCONV_SITE) {
#ifdef FASTCONV_EMULATED
  ::emulator::group_multiply(c, 128, a, b, true, site);
#else
  FASTCONV_GROUP_MULTIPLY("bf16.bf16");
#endif
}

// Until at most `left` of the committed groups are under way.
template <int left>
__device__ __forceinline__ void group_wait(FASTCONV_SITE_ONLY) {
#ifdef FASTCONV_EMULATED
  ::emulator::group_wait(left, site);
#else
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(left) : "memory");
#endif
}

// Registers that products were written to are not read before this point.
__device__ __forceinline__ void hold_registers([[maybe_unused]] float (&c)[64]) {
#ifndef FASTCONV_EMULATED
#pragma unroll
  for (int i = 0; i < 64; ++i) asm volatile("" : "+f"(c[i])::"memory");
#endif
}

// ---- conversions ----
// The nearest float with a 10-bit fraction; ties away from zero.
__device__ __forceinline__ uint32_t to_tf32(float value) {
#ifdef FASTCONV_EMULATED
  return ::emulator::to_tf32(value);
#else
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(bits) : "f"(value));
  return bits;
#endif
}

// a / b to two units of the last place, over the whole range and without the call that the exact quotient makes.
__device__ __forceinline__ float quotient(float a, float b) {
#ifdef FASTCONV_EMULATED
  return a / b;
#else
  float q;
  asm("div.full.f32 %0, %1, %2;\n" : "=f"(q) : "f"(a), "f"(b));
  return q;
#endif
}
__device__ __forceinline__ double quotient(double a, double b) { return a / b; }

__device__ __forceinline__ float as_float(uint32_t bits) {
#ifdef FASTCONV_EMULATED
  return float_of(bits);
#else
  return __uint_as_float(bits);
#endif
}

__device__ __forceinline__ float widen(half16 value) {
#ifdef FASTCONV_EMULATED
  return host::widen(value);
#else
  float wide;
  asm("cvt.f32.f16 %0, %1;\n" : "=f"(wide) : "h"(value.bits));
  return wide;
#endif
}
__device__ __forceinline__ float widen(bfloat16 value) { return as_float(uint32_t{value.bits} << 16); }
__device__ __forceinline__ float widen(float value) { return value; }
__device__ __forceinline__ double widen(double value) { return value; }

template <class T, class Wide>
__device__ __forceinline__ T narrow(Wide value) {
  return static_cast<T>(value);
}
template <>
__device__ __forceinline__ half16 narrow<half16, float>(float value) {
#ifdef FASTCONV_EMULATED
  return host::narrow_half(value);
#else
  half16 h;
  asm("cvt.rn.f16.f32 %0, %1;\n" : "=h"(h.bits) : "f"(value));
  return h;
#endif
}
template <>
__device__ __forceinline__ bfloat16 narrow<bfloat16, float>(float value) {
#ifdef FASTCONV_EMULATED
  return host::narrow_bfloat(value);
#else
  bfloat16 b;
  asm("cvt.rn.bf16.f32 %0, %1;\n" : "=h"(b.bits) : "f"(value));
  return b;
#endif
}

template <>
__device__ __forceinline__ half16 narrow<half16, double>(double value) {
  return narrow<half16>(static_cast<float>(value));
}
template <>
__device__ __forceinline__ bfloat16 narrow<bfloat16, double>(double value) {
  return narrow<bfloat16>(static_cast<float>(value));
}

}  // namespace fastconv::cuda::ptx
