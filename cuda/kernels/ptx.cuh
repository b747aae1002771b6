// All PTX of the project: one function per instruction, each with a device body and a body for the emulator
// (tests/cuda_emulator), which does the same on the host and checks what the hardware would not tell.
//
// Fragments follow "Matrix Fragments for mma.m16n8k8 / m16n8k16" of the PTX ISA, 8.x. With group = lane / 4 and
// member = lane % 4, an accumulator of 16 x 8 holds, per lane,
//   c0 (group, 2 member)   c1 (group, 2 member + 1)   c2 (group + 8, 2 member)   c3 (group + 8, 2 member + 1)
#pragma once

#include "numbers.cuh"

#ifdef FASTCONV_EMULATED
#include "ptx_emulated.h"
#define FASTCONV_SITE , ::emulator::Site site = {}
#define FASTCONV_SITE_ONLY ::emulator::Site site = {}
#define FASTCONV_PASS_SITE , site
#else
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
  ::emulator::load_matrices(d, row, site);
#else
  const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
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
