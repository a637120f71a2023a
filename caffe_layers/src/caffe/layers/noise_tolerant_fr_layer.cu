#include <vector>

#include "caffe/layers/noise_tolerant_fr_layer.hpp"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

// A thread a sample.
template <typename Dtype>
__global__ void CosinesAtLabels(const int nthreads, const int classes, const Dtype* x, const Dtype* label,
    Dtype* cosines) {
  CUDA_KERNEL_LOOP(i, nthreads) {
    const int own = ClassOf(label[i]);
    cosines[i] = own < 0 ? Dtype(0) : x[static_cast<size_t>(i) * classes + own];
  }
}

template <typename Dtype>
__global__ void WeighRows(const int nthreads, const int size, const Dtype* weights, const Dtype* from, Dtype* to) {
  CUDA_KERNEL_LOOP(index, nthreads) {
    to[index] = weights[index / size] * from[index];
  }
}

template <typename Dtype>
void NoiseTolerantFRLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const int count = top[0]->count();
  if (this->phase_ != TRAIN) {
    if (top[0] != bottom[0]) {
      caffe_copy(count, bottom[0]->gpu_data(), top[0]->mutable_gpu_data());
    }
    return;
  }
  CheckLabels(this->layer_param_.name(), *bottom[2], C_);
  // NOLINT_NEXT_LINE(whitespace/operators)
  CosinesAtLabels<Dtype><<<CAFFE_GET_BLOCKS(N_), CAFFE_CUDA_NUM_THREADS>>>(N_, C_, bottom[1]->gpu_data(),
      bottom[2]->gpu_data(), cosines_.mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
  NextWeights(bottom[2]->cpu_data(), cosines_.cpu_data());
  // NOLINT_NEXT_LINE(whitespace/operators)
  WeighRows<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, K_, weights_.gpu_data(),
      bottom[0]->gpu_data(), top[0]->mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
void NoiseTolerantFRLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  for (int k = 1; k < bottom.size(); ++k) {
    if (propagate_down[k]) {
      CHECK_EQ(k, 1) << this->type() << " Layer cannot backpropagate to label inputs.";
      caffe_gpu_set(bottom[1]->count(), Dtype(0), bottom[1]->mutable_gpu_diff());
    }
  }
  if (!propagate_down[0]) {
    return;
  }
  const int count = top[0]->count();
  if (this->phase_ == TRAIN) {
    // NOLINT_NEXT_LINE(whitespace/operators)
    WeighRows<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, K_, weights_.gpu_data() + N_,
        top[0]->gpu_diff(), bottom[0]->mutable_gpu_diff());
    CUDA_POST_KERNEL_CHECK;
  } else if (top[0] != bottom[0]) {
    caffe_copy(count, top[0]->gpu_diff(), bottom[0]->mutable_gpu_diff());
  }
}

INSTANTIATE_LAYER_GPU_FUNCS(NoiseTolerantFRLayer);

}  // namespace caffe
