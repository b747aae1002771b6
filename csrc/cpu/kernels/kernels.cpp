// Joins the tables of the ISA files that this build contains. To add an ISA: a row here.
#include "kernels.h"

namespace fastconv {

const Kernels& kernels_for(Isa isa) {
#define FASTCONV_KERNELS(isa)                                                                                   \
  {                                                                                                             \
    gemm_##isa, pack_##isa, dot_##isa, depthwise_##isa, indirect_##isa, pool_##isa, winograd_##isa, peak_##isa, \
        curve_##isa, half_##isa                                                                                 \
  }
  static const Kernels baseline FASTCONV_KERNELS(baseline);
#if defined(__x86_64__)
  static const Kernels avx2 FASTCONV_KERNELS(avx2);
  static const Kernels avx512 FASTCONV_KERNELS(avx512);
  if (isa == Isa::avx512) return avx512;
  if (isa == Isa::avx2) return avx2;
#elif defined(__aarch64__)
  static const Kernels neon FASTCONV_KERNELS(neon);
  if (isa == Isa::neon) return neon;
#endif
#undef FASTCONV_KERNELS
  (void)isa;
  return baseline;
}

}  // namespace fastconv
