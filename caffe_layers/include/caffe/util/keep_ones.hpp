#ifndef CAFFE_UTIL_KEEP_ONES_HPP_
#define CAFFE_UTIL_KEEP_ONES_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

/// At least `count` ones. They are written where there were fewer only: what is on the GPU stays there, pass after pass.
template <typename Dtype>
inline void KeepOnes(int count, Blob<Dtype>* ones) {
  if (ones->count() < count) {
    ones->Reshape(std::vector<int>(1, count));
    caffe_set(count, Dtype(1), ones->mutable_cpu_data());
  }
}

}  // namespace caffe

#endif  // CAFFE_UTIL_KEEP_ONES_HPP_
