#ifndef CAFFE_UTIL_FOCAL_WEIGHT_HPP_
#define CAFFE_UTIL_FOCAL_WEIGHT_HPP_

#include <cfloat>
#include <cmath>

#ifndef CAFFE_FACE_BOTH
#ifdef __CUDACC__
#define CAFFE_FACE_BOTH __host__ __device__ __forceinline__
#else
#define CAFFE_FACE_BOTH inline
#endif
#endif

namespace caffe {

/// The weight of a sample with the probability p, (1 - p)^gamma or (1 + p)^gamma, and its derivative by p.
template <typename Dtype>
CAFFE_FACE_BOTH void FocalWeight(bool added, Dtype gamma, Dtype p, Dtype* weight, Dtype* slope) {
  Dtype base = added ? 1 + p : 1 - p;
  base = base < Dtype(1e-10) ? Dtype(1e-10) : base;  // a gamma below 1 has an infinite slope at p = 1
  *weight = std::pow(base, gamma);
  *slope = (added ? gamma : -gamma) * std::pow(base, gamma - 1);
}

/// The loss's derivative by x_c is this times (p_c - 1) for the label's class, and times p_c for another.
template <typename Dtype>
CAFFE_FACE_BOTH Dtype FocalFactor(bool added, Dtype gamma, Dtype p) {
  Dtype weight, slope;
  FocalWeight(added, gamma, p, &weight, &slope);
  return weight + slope * p * std::log(p < Dtype(FLT_MIN) ? Dtype(FLT_MIN) : p);
}

}  // namespace caffe

#endif  // CAFFE_UTIL_FOCAL_WEIGHT_HPP_
