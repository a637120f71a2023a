#ifndef CAFFE_UTIL_CLASS_SAMPLES_CUH_
#define CAFFE_UTIL_CLASS_SAMPLES_CUH_

#include "caffe/util/block_reduce.cuh"
#include "caffe/util/check_labels.hpp"

// How a block finds the samples of one class: the block of a class's first sample does all of them, so that no two
// blocks write to one class's row, and the sums are in the order of the samples whichever block comes first.

namespace caffe {

/// The first sample of class `y` from `from` on and before `end`, or `end`; in every thread. A block of whole warps
/// looks at as many labels at once as it has threads, and every thread has to call it.
template <typename Dtype>
__device__ __forceinline__ int NextOfClass(int y, int from, int end, const Dtype* label) {
  for (int start = from; start < end; start += blockDim.x) {
    int sample = start + threadIdx.x;
    int same = sample < end && ClassOf(label[sample]) == y;
    BlockArgMax(&same, &sample);
    if (same) {
      return sample;
    }
  }
  return end;
}

}  // namespace caffe

#endif  // CAFFE_UTIL_CLASS_SAMPLES_CUH_
