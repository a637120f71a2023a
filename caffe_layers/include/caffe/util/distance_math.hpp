#ifndef CAFFE_UTIL_DISTANCE_MATH_HPP_
#define CAFFE_UTIL_DISTANCE_MATH_HPP_

#include <cstddef>

// What InnerDistance computes for a pair of numbers or rows, on the host and on the device.

#ifdef __CUDACC__
#define CAFFE_FACE_BOTH __host__ __device__ __forceinline__
#else
#define CAFFE_FACE_BOTH inline
#endif

namespace caffe {

template <typename Dtype>
CAFFE_FACE_BOTH Dtype RowSquaredDistance(int size, const Dtype* x, const Dtype* w) {
  Dtype sum = 0;
  for (int k = 0; k < size; ++k) {
    sum += (x[k] - w[k]) * (x[k] - w[k]);
  }
  return sum;
}

/**
 * @brief |x - w|^2 from `cross` = -2 x.w and `squares` = |x|^2 + |w|^2.
 *
 * Below 1/64 of `squares` the difference has lost more than six bits (in float a relative error of about 1e-5), and
 * may be negative; then the rows are gone through again.
 */
template <typename Dtype>
CAFFE_FACE_BOTH Dtype SquaredDistance(int size, const Dtype* x, const Dtype* w, Dtype squares, Dtype cross) {
  const Dtype distance = squares + cross;
  return distance < squares * Dtype(0.015625) ? RowSquaredDistance(size, x, w) : distance;
}

/// The gradient by x of g * |x - w|, and without `exact` what NormFace's fork has for it.
template <typename Dtype>
CAFFE_FACE_BOTH Dtype AbsoluteGradient(bool exact, Dtype g, Dtype x, Dtype w) {
  if (x > w) {
    return g;
  }
  return x < w ? (exact ? -g : Dtype(-1)) : Dtype(0);
}

/// The gradient by x of g times the distance of x and w in one feature: |x - w|, or (x - w)^2.
template <typename Dtype>
CAFFE_FACE_BOTH Dtype DistanceGradient(bool l1, bool exact, Dtype g, Dtype x, Dtype w) {
  return l1 ? AbsoluteGradient(exact, g, x, w) : 2 * g * (x - w);
}

}  // namespace caffe

#endif  // CAFFE_UTIL_DISTANCE_MATH_HPP_
