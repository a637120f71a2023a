#ifndef CAFFE_UTIL_AFFINE_SCORE_HPP_
#define CAFFE_UTIL_AFFINE_SCORE_HPP_

#include <cmath>

#ifndef CAFFE_FACE_BOTH
#ifdef __CUDACC__
#define CAFFE_FACE_BOTH __host__ __device__ __forceinline__
#else
#define CAFFE_FACE_BOTH inline
#endif
#endif

namespace caffe {

/// LabelSpecificAffine's score of the label, in the place of x, and its derivative.
template <typename Dtype>
CAFFE_FACE_BOTH void AffineScore(Dtype scale, Dtype bias, Dtype power, Dtype* x, Dtype* slope) {
  *slope = 1;
  if (*x > 0) {
    const Dtype y = scale * std::pow(*x, power);
    *slope = power == 1 ? scale : scale * power * std::pow(*x, power - 1);
    *x = y > -bias ? y + bias : y;
  }
}

}  // namespace caffe

#endif  // CAFFE_UTIL_AFFINE_SCORE_HPP_
