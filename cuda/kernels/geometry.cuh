// A Gather (csrc/core/gather.h) with the strides of its arrays, as a kernel's parameter.
//
//   dst[image, dst_c, place(j)] = sum over src_c, t of  w(dst_c, src_c, tap(t)) * src[image, src_c, position(j, t)]
// Strides are in elements and 64-bit; starts (place of j = 0, first tap) are folded into dst_base and w_base.
#pragma once

#include "../../csrc/core/gather.h"
#include "memory.cuh"

namespace fastconv::cuda {

struct DeviceAxis {
  int64_t src, dst, src_step, taps, offset, offset_step;
  int64_t src_stride, dst_stride, w_stride;  // of one position, of one j, of one t
};

struct DeviceGather {
  DeviceAxis d, h, w;
  int64_t batch, groups, src_c, dst_c, taps, pixels;
  int64_t src_image, src_channel, dst_image, dst_channel, dst_base;
  int64_t w_group, w_dst, w_src, w_base;
  bool channels_last;
  bool pooled;  // pixels are numbered 2 x 2 by 2 x 2, and dst takes the maximum of each four (pooled_gather)
};

inline DeviceGather device_gather(const ConvProblem& p, const Gather& g) {
  const bool forward = p.direction != Direction::input_gradient, last = p.layout == Layout::nhwc;
  DeviceGather out{};
  const int64_t kernel_stride[3] = {p.h().kernel * p.w().kernel, p.w().kernel, 1};
  const int64_t src_c = g.src_c * p.groups, dst_c = g.dst_c * p.groups;
  int64_t src_stride = last ? src_c : 1, dst_stride = last ? dst_c : 1;
  DeviceAxis* const axes[3] = {&out.d, &out.h, &out.w};
  for (int i = 2; i >= 0; --i) {
    const Walk& walk = g.walks[static_cast<size_t>(i)];
    *axes[i] = {walk.src,
                walk.dst,
                walk.src_step,
                walk.taps,
                walk.offset,
                walk.offset_step,
                src_stride,
                dst_stride * walk.dst_step,
                kernel_stride[i] * walk.tap_step};
    out.dst_base += walk.dst_start * dst_stride;
    out.w_base += walk.tap_start * kernel_stride[i];
    src_stride *= walk.src;
    dst_stride *= walk.dst_full;
  }
  out.batch = p.batch, out.groups = p.groups, out.src_c = g.src_c, out.dst_c = g.dst_c;
  out.taps = g.taps(), out.pixels = g.pixels();
  out.src_image = last ? src_stride : src_stride * src_c;
  out.dst_image = last ? dst_stride : dst_stride * dst_c;
  out.src_channel = last ? 1 : src_stride;
  out.dst_channel = last ? 1 : dst_stride;
  out.w_group = p.out_c_group() * p.in_c_group() * p.taps();
  out.w_dst = forward ? p.in_c_group() * p.taps() : p.taps();
  out.w_src = forward ? p.taps() : p.in_c_group() * p.taps();
  out.channels_last = last;
  return out;
}

// The forward gather whose results are pooled, 2 x 2 with stride 2: pixel 4 q + 2 y + x is at (y, x) of window q. The
// last row or column of an odd extent is in no window and not computed.
inline DeviceGather pooled_gather(DeviceGather g) {
  const int64_t channels = g.groups * g.dst_c, height = g.h.dst / 2, width = g.w.dst / 2;
  g.h.dst = 2 * height, g.w.dst = 2 * width, g.pixels = g.d.dst * g.h.dst * g.w.dst;
  g.w.dst_stride = g.channels_last ? channels : 1;
  g.h.dst_stride = width * g.w.dst_stride, g.d.dst_stride = height * g.h.dst_stride;
  g.dst_channel = g.channels_last ? 1 : g.d.dst * height * width;
  g.dst_image = channels * g.d.dst * height * width;
  g.pooled = true;
  return g;
}

struct PixelPlace {
  int d, h, w;
};

// Where pixel number `pixel` of an image is.
__device__ __forceinline__ PixelPlace place_of_pixel(const DeviceGather& g, int pixel) {
  int width = static_cast<int>(g.w.dst), height = static_cast<int>(g.h.dst), within = 0;
  if (g.pooled) within = pixel % 4, pixel /= 4, width /= 2, height /= 2;
  PixelPlace at{pixel / width / height, pixel / width % height, pixel % width};
  if (g.pooled) at.h = 2 * at.h + within / 2, at.w = 2 * at.w + within % 2;
  return at;
}

// Offset in an image of dst.
__device__ __forceinline__ int64_t place_in_dst(const DeviceGather& g, const PixelPlace& at) {
  const int half = g.pooled;
  return g.dst_base + at.d * g.d.dst_stride + (at.h >> half) * g.h.dst_stride + (at.w >> half) * g.w.dst_stride;
}

}  // namespace fastconv::cuda
