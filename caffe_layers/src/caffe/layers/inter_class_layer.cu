#include <algorithm>
#include <cmath>
#include <vector>

#include "caffe/layers/inter_class_layer.hpp"
#include "caffe/util/block_reduce.cuh"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

// Blocks that share out the samples, so that they are in flight together.
static int InterClassBlocks(int samples) { return std::min(samples, 512); }

// sums (blocks, 2): the sums over a block's samples of u.w_y and of |w_y|^2.
template <typename Dtype>
__global__ void InterClassSums(const int samples, const int size, const Dtype* label, const Dtype* w,
    const Dtype* mean, Dtype* sums) {
  Dtype along = 0, squares = 0;
  for (int i = blockIdx.x; i < samples; i += gridDim.x) {
    const int y = ClassOf(label[i]);
    for (int k = threadIdx.x; k < size && y >= 0; k += blockDim.x) {
      const Dtype value = w[static_cast<size_t>(y) * size + k];
      along += mean[k] * value;
      squares += value * value;
    }
  }
  along = BlockSum(along);
  squares = BlockSum(squares);
  if (threadIdx.x == 0) {
    sums[2 * blockIdx.x] = along;
    sums[2 * blockIdx.x + 1] = squares;
  }
}

// A block a sample; the first one of each class steps for the later ones too, so that no two blocks write to a row.
template <typename Dtype>
__global__ void InterClassStep(const int samples, const int size, const Dtype of_mean, const Dtype of_row,
    const Dtype* label, const Dtype* mean, const Dtype* w, Dtype* dw) {
  for (int i = blockIdx.x; i < samples; i += gridDim.x) {
    const int y = ClassOf(label[i]);
    if (y < 0) {
      continue;
    }
    int earlier = 0, later = 0;
    for (int j = threadIdx.x; j < samples; j += blockDim.x) {
      const bool same = ClassOf(label[j]) == y;
      earlier += same && j < i;
      later += same && j >= i;
    }
    if (BlockSum(earlier) > 0) {
      continue;
    }
    const Dtype n = BlockSum(later);  // of the class, this one included
    for (int k = threadIdx.x; k < size; k += blockDim.x) {
      const size_t at = static_cast<size_t>(y) * size + k;
      dw[at] += n * (of_mean * mean[k] + of_row * w[at]);
    }
  }
}

template <typename Dtype>
void InterClassLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const int labelled = CheckLabels(this->layer_param_.name(), *bottom[1], N_);
  labelled_ = std::max(1, labelled);
  NextAlpha(top);
  const Dtype* w = this->blobs_[0]->gpu_data();
  Dtype* mean = mean_.mutable_gpu_data();
  caffe_gpu_gemv<Dtype>(CblasTrans, N_, K_, Dtype(1) / N_, w, ones_.gpu_data(), Dtype(0), mean);
  Dtype squares = 0, length = 0;
  if (among_) {
    caffe_gpu_dot(N_ * K_, w, w, &squares);
  } else if (this->layer_param_.inter_class_param().normalize()) {
    caffe_gpu_dot(K_, mean, mean, &length);
    caffe_gpu_scal(K_, Dtype(1 / std::sqrt(length + 1e-5)), mean);
  }
  const int blocks = InterClassBlocks(M_);
  sums_.Reshape(vector<int>(1, 2 * blocks));
  // NOLINT_NEXT_LINE(whitespace/operators)
  InterClassSums<Dtype><<<blocks, RowThreads(K_)>>>(M_, K_, bottom[1]->gpu_data(), w, mean, sums_.mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
  const Dtype* sums = sums_.cpu_data();
  double along = 0, own_squares = 0;
  for (int b = 0; b < blocks; ++b) {
    along += sums[2 * b];
    own_squares += sums[2 * b + 1];
  }
  if (among_) {
    distance_ = static_cast<double>(labelled) * squares / N_ - 2 * along + own_squares;
    if (this->layer_param_.inter_class_param().normalize()) {
      caffe_gpu_dot(K_, mean_.gpu_data(), mean_.gpu_data(), &length);
      caffe_gpu_scal(K_, Dtype(1 / std::sqrt(length + 1e-5)), mean_.mutable_gpu_data());
    }
  } else {
    distance_ = 1 - along / labelled_;
  }
  top[0]->mutable_cpu_data()[0] = distance_;
}

template <typename Dtype>
void InterClassLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[0]) {
    caffe_gpu_set(bottom[0]->count(), Dtype(0), bottom[0]->mutable_gpu_diff());
  }
  if (!this->param_propagate_down_[0]) {
    return;
  }
  Dtype of_mean, of_row;
  StepFactors(&of_mean, &of_row);
  // NOLINT_NEXT_LINE(whitespace/operators)
  InterClassStep<Dtype><<<RowBlocks(M_), RowThreads(std::max(M_, K_))>>>(M_, K_, of_mean, of_row,
      bottom[1]->gpu_data(), mean_.gpu_data(), this->blobs_[0]->gpu_data(), this->blobs_[0]->mutable_gpu_diff());
  CUDA_POST_KERNEL_CHECK;
}

INSTANTIATE_LAYER_GPU_FUNCS(InterClassLayer);

}  // namespace caffe
