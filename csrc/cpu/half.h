// Arrays of 16-bit elements (float16, bfloat16): stored so, computed in float32, and rounded once.
//
//   for some images at a time, as many as stay in the shared cache:
//     widen what is read to float32; run the plan of the same problem in float32; narrow what it wrote
//
// Every row of the table serves 16-bit problems in this way, with its own weights packed in float32. Memory sees each
// array once, at half its width; what is widened is written and read in a cache. A weight gradient sums the parts of
// the batch in float32, in their order.
#pragma once

#include "buffer.h"
#include "plan.h"

namespace fastconv {

// The float32 problem whose plan serves `problem`, or `problem` itself where its elements have more than 16 bits.
ConvProblem computed_as(const ConvProblem& problem, const Machine& machine);

// The plan of a 16-bit problem around that of computed_as.
ConvPlan half_plan(const ConvProblem& problem, ConvPlan single);

void pack_half(const ConvPlan& plan, const void* w, void* packed, Interrupt& interrupt);
void run_half(const ConvPlan& plan, const ConvOperands& operands, Interrupt& interrupt);

void widen(DType type, const void* from, float* to, int64_t count, int threads, Interrupt& interrupt);
void narrow(DType type, const float* from, void* to, int64_t count, int threads, Interrupt& interrupt);

// Images computed together: a divisor of the batch, so that one plan serves all of them.
int64_t images_together(int64_t batch, double bytes_of_image, const Machine& machine);

// f(first image, images, from, to) in float32 over a batch of 16-bit images, for poolings.
template <class F>
void in_float32(DType type, int64_t batch, int64_t from_image, int64_t to_image, const void* from, void* to,
                Interrupt& interrupt, const F& f) {
  const Machine& machine = this_machine();
  const double elements = static_cast<double>(from_image) + static_cast<double>(to_image);
  const int64_t images = images_together(batch, elements * sizeof(float), machine);
  const int threads = get_num_threads();
  Carver sizes(nullptr);
  sizes.take<float>(images * from_image), sizes.take<float>(images * to_image);
  const Workspace workspace(sizes.used());
  Carver carver(workspace.data());
  float* const wide_from = carver.take<float>(images * from_image);
  float* const wide_to = carver.take<float>(images * to_image);
  for (int64_t image = 0; image < batch && !interrupt.stopped(); image += images) {
    widen(type, static_cast<const uint16_t*>(from) + image * from_image, wide_from, images * from_image, threads,
          interrupt);
    f(image, images, wide_from, wide_to);
    narrow(type, wide_to, static_cast<uint16_t*>(to) + image * to_image, images * to_image, threads, interrupt);
  }
}

}  // namespace fastconv
