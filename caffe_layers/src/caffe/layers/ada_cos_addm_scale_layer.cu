#include <vector>

#include "caffe/layers/ada_cos_addm_scale_layer.hpp"
#include "caffe/util/block_reduce.cuh"
#include "caffe/util/check_labels.hpp"

namespace caffe {

// A block a sample; row_sums is (2, N).
template <typename Dtype>
__global__ void AdaCosSums(const int rows, const int classes, const Dtype scale, const Dtype* x, const Dtype* label,
    Dtype* row_sums) {
  for (int i = blockIdx.x; i < rows; i += gridDim.x) {
    const int own = ClassOf(label[i]);
    Dtype angles = 0, exponentials = 0;
    for (int j = threadIdx.x; j < classes && own >= 0; j += blockDim.x) {
      const Dtype value = x[static_cast<size_t>(i) * classes + j];
      angles += acos(value > 1 ? Dtype(1) : (value < -1 ? Dtype(-1) : value));
      exponentials += j == own ? Dtype(1) : exp(scale * value);
    }
    angles = BlockSum(angles);
    exponentials = BlockSum(exponentials);
    if (threadIdx.x == 0) {
      row_sums[i] = angles;
      row_sums[rows + i] = exponentials;
    }
  }
}

template <typename Dtype>
Dtype AdaCosAddmScaleLayer<Dtype>::Scale_gpu(const vector<Blob<Dtype>*>& bottom, int labelled) {
  // NOLINT_NEXT_LINE(whitespace/operators)
  AdaCosSums<Dtype><<<RowBlocks(this->N_), RowThreads(this->C_)>>>(this->N_, this->C_, this->scale_,
      bottom[0]->gpu_data(), bottom[1]->gpu_data(), row_sums_.mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
  double angles = 0, exponentials = 0;
  for (int i = 0; i < this->N_; ++i) {
    angles += row_sums_.cpu_data()[i];
    exponentials += row_sums_.cpu_data()[this->N_ + i];
  }
  return NextScale(angles, exponentials, labelled);
}

template float AdaCosAddmScaleLayer<float>::Scale_gpu(const vector<Blob<float>*>& bottom, int labelled);
template double AdaCosAddmScaleLayer<double>::Scale_gpu(const vector<Blob<double>*>& bottom, int labelled);

}  // namespace caffe
