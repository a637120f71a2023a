#include <algorithm>
#include <vector>

#include "caffe/layers/center_loss_layer.hpp"
#include "caffe/util/block_reduce.cuh"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

// apart (rows, size) = f - the center of the row's label
template <typename Dtype>
__global__ void CenterDifference(const int nthreads, const int size, const Dtype* f, const Dtype* label,
    const Dtype* centers, Dtype* apart) {
  CUDA_KERNEL_LOOP(index, nthreads) {
    const int y = ClassOf(label[index / size]);
    apart[index] = y < 0 ? Dtype(0) : f[index] - centers[static_cast<size_t>(y) * size + index % size];
  }
}

// A block a sample; the first one of each class takes the later ones along, so that no two blocks write to a center.
template <typename Dtype>
__global__ void CenterGradient(const int rows, const int size, const int step, const Dtype rate, const Dtype* label,
    const Dtype* slope, Dtype* gradient) {
  for (int i = blockIdx.x; i < rows; i += gridDim.x) {
    const int y = ClassOf(label[i]);
    if (y < 0) {
      continue;
    }
    int earlier = 0, later = 0;
    for (int j = threadIdx.x; j < rows; j += blockDim.x) {
      const bool same = ClassOf(label[j]) == y;
      earlier += same && j < i;
      later += same && j >= i;
    }
    if (BlockSum(earlier) > 0) {
      continue;
    }
    const int n = BlockSum(later);  // of the class, this one included
    Dtype factor = rate;
    if (step != CenterLossParameter_CenterStep_DERIVATIVE) {
      factor = Dtype(step == CenterLossParameter_CenterStep_FORK ? n : 1) / (1 + n);
    }
    for (int k = threadIdx.x; k < size; k += blockDim.x) {
      Dtype sum = 0;
      for (int j = i, left = n; left > 0; ++j) {
        if (ClassOf(label[j]) == y) {
          sum += slope[static_cast<size_t>(j) * size + k];
          --left;
        }
      }
      gradient[static_cast<size_t>(y) * size + k] -= factor * sum;
    }
  }
}

template <typename Dtype>
void CenterLossLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  labelled_ = std::max(1, CheckLabels(this->layer_param_.name(), *bottom[1], C_));
  Dtype* slope = slope_.mutable_gpu_data();
  const int count = N_ * K_;
  // NOLINT_NEXT_LINE(whitespace/operators)
  CenterDifference<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, K_, bottom[0]->gpu_data(),
      bottom[1]->gpu_data(), this->blobs_[0]->gpu_data(), slope);
  CUDA_POST_KERNEL_CHECK;
  Dtype sum;
  if (l1_) {
    caffe_gpu_asum(count, slope, &sum);
    caffe_gpu_sign(count, slope, slope);
  } else {
    caffe_gpu_dot(count, slope, slope, &sum);
    sum /= 2;
  }
  top[0]->mutable_cpu_data()[0] = sum / labelled_;
}

template <typename Dtype>
void CenterLossLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  const Dtype rate = top[0]->cpu_diff()[0] / labelled_;
  const Dtype* slope = slope_.gpu_data();
  if (this->param_propagate_down_[0]) {
    // NOLINT_NEXT_LINE(whitespace/operators)
    CenterGradient<Dtype><<<RowBlocks(N_), RowThreads(K_)>>>(N_, K_,
        this->layer_param_.center_loss_param().center_step(), rate, bottom[1]->gpu_data(), slope,
        this->blobs_[0]->mutable_gpu_diff());
    CUDA_POST_KERNEL_CHECK;
  }
  if (propagate_down[0]) {
    caffe_gpu_scale(N_ * K_, rate, slope, bottom[0]->mutable_gpu_diff());
  }
}

INSTANTIATE_LAYER_GPU_FUNCS(CenterLossLayer);

}  // namespace caffe
