#include <cfloat>
#include <vector>

#include "caffe/layers/focal_loss_layer.hpp"
#include "caffe/util/block_reduce.cuh"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/focal_weight.hpp"

namespace caffe {

// A thread a position.
template <typename Dtype>
__global__ void FocalTerms(const int nthreads, const int classes, const int inner, const int ignore, const bool added,
    const Dtype gamma, const Dtype* probabilities, const Dtype* label, Dtype* terms) {
  CUDA_KERNEL_LOOP(i, nthreads) {
    const int y = ClassOf(label[i]);
    Dtype term = 0;
    if (y >= 0 && y != ignore) {
      const Dtype p = probabilities[(static_cast<size_t>(i / inner) * classes + y) * inner + i % inner];
      Dtype weight, slope;
      FocalWeight(added, gamma, p, &weight, &slope);
      term = -weight * log(p < Dtype(FLT_MIN) ? Dtype(FLT_MIN) : p);
    }
    terms[i] = term;
  }
}

// One block.
template <typename Dtype>
__global__ void FocalTotal(const int count, const Dtype normalizer, const Dtype* terms, Dtype* loss) {
  Dtype sum = 0;
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    sum += terms[i];
  }
  sum = BlockSum(sum);
  if (threadIdx.x == 0) {
    *loss = sum / normalizer;
  }
}

// A thread a number of x.
template <typename Dtype>
__global__ void FocalGradient(const int nthreads, const int classes, const int inner, const int ignore,
    const bool added, const Dtype gamma, const Dtype rate, const Dtype* probabilities, const Dtype* label, Dtype* dx) {
  CUDA_KERNEL_LOOP(index, nthreads) {
    const int outer = index / inner / classes;
    const int c = index / inner % classes;
    const int y = ClassOf(label[outer * inner + index % inner]);
    Dtype value = 0;
    if (y >= 0 && y != ignore) {
      const Dtype p = probabilities[(static_cast<size_t>(outer) * classes + y) * inner + index % inner];
      value = rate * FocalFactor(added, gamma, p) * (probabilities[index] - (c == y));
    }
    dx[index] = value;
  }
}

template <typename Dtype>
void FocalLossLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  normalizer_ = Normalizer(CountLabels(*bottom[1]));
  softmax_bottom_[0] = bottom[0];
  softmax_->Forward(softmax_bottom_, softmax_top_);
  const int count = terms_.count();
  // NOLINT_NEXT_LINE(whitespace/operators)
  FocalTerms<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, classes_, inner_, ignore_, added_,
      gamma_, p_.gpu_data(), bottom[1]->gpu_data(), terms_.mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
  // NOLINT_NEXT_LINE(whitespace/operators)
  FocalTotal<Dtype><<<1, RowThreads(count)>>>(count, normalizer_, terms_.gpu_data(), top[0]->mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
  if (top.size() > 1) {
    top[1]->ShareData(p_);
  }
}

template <typename Dtype>
void FocalLossLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  if (!propagate_down[0]) {
    return;
  }
  const Dtype rate = top[0]->cpu_diff()[0] / normalizer_;
  const int count = bottom[0]->count();
  // NOLINT_NEXT_LINE(whitespace/operators)
  FocalGradient<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, classes_, inner_, ignore_, added_,
      gamma_, rate, p_.gpu_data(), bottom[1]->gpu_data(), bottom[0]->mutable_gpu_diff());
  CUDA_POST_KERNEL_CHECK;
}

INSTANTIATE_LAYER_GPU_FUNCS(FocalLossLayer);

}  // namespace caffe
