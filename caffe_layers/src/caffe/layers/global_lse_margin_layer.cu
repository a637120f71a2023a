#include <vector>

#include "caffe/layers/global_lse_margin_layer.hpp"
#include "caffe/util/block_reduce.cuh"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/math_functions.hpp"
#include "caffe/util/other_scores.hpp"

namespace caffe {

// scales is NULL where all samples have the one scale.
template <typename Dtype>
__global__ void LSEMarginForward(const int nthreads, const int classes, const Dtype margin, const Dtype scale,
    const Dtype* scales, const Dtype* x, const Dtype* label, Dtype* y) {
  CUDA_KERNEL_LOOP(index, nthreads) {
    const int i = index / classes;
    const Dtype value = index % classes == ClassOf(label[i]) ? x[index] - margin : x[index];
    y[index] = (scales ? scales[i] : scale) * value;
  }
}

template <typename Dtype>
__global__ void LSEMarginGradient(const int nthreads, const int classes, const Dtype scale, const Dtype* scales,
    const Dtype* g, Dtype* dx) {
  CUDA_KERNEL_LOOP(index, nthreads) {
    dx[index] = (scales ? scales[index / classes] : scale) * g[index];
  }
}

// A block a sample.
template <typename Dtype>
__global__ void LSEMarginScaleGradient(const int rows, const int classes, const Dtype margin, const Dtype* x,
    const Dtype* label, const Dtype* g, Dtype* sums) {
  for (int i = blockIdx.x; i < rows; i += gridDim.x) {
    const size_t at = static_cast<size_t>(i) * classes;
    const int own = ClassOf(label[i]);
    Dtype sum = 0;
    for (int j = threadIdx.x; j < classes; j += blockDim.x) {
      sum += g[at + j] * (j == own ? x[at + j] - margin : x[at + j]);
    }
    sum = BlockSum(sum);
    if (threadIdx.x == 0) {
      sums[i] = sum;
    }
  }
}

template <typename Dtype>
void GlobalLSEMarginLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  scale_ = BoundedScale();
  margin_ = 0;
  const Blob<Dtype>* scales = bottom.size() > 2 ? bottom[2] : NULL;
  if (this->phase_ == TRAIN) {
    const int labelled = CheckLabels(this->layer_param_.name(), *bottom[1], C_);
    OtherScoresGPU<Dtype>(*bottom[0], *bottom[1], scales, scale_, &others_);
    NextMargin(bottom, labelled, top);
  } else {
    NextMargin(bottom, 0, top);
  }
  const int count = top[0]->count();
  // NOLINT_NEXT_LINE(whitespace/operators)
  LSEMarginForward<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, C_, margin_, scale_,
      scales ? scales->gpu_data() : NULL, bottom[0]->gpu_data(), bottom[1]->gpu_data(), top[0]->mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
void GlobalLSEMarginLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  const bool own_scale = bottom.size() < 3;
  const int count = top[0]->count();
  if (own_scale ? this->param_propagate_down_[0] : propagate_down[2]) {
    // NOLINT_NEXT_LINE(whitespace/operators)
    LSEMarginScaleGradient<Dtype><<<RowBlocks(N_), RowThreads(C_)>>>(N_, C_, margin_, bottom[0]->gpu_data(),
        bottom[1]->gpu_data(), top[0]->gpu_diff(),
        own_scale ? row_sums_.mutable_gpu_data() : bottom[2]->mutable_gpu_diff());
    CUDA_POST_KERNEL_CHECK;
    for (int i = 0; i < N_ && own_scale; ++i) {
      this->blobs_[0]->mutable_cpu_diff()[0] += row_sums_.cpu_data()[i];
    }
  }
  if (propagate_down[0]) {
    // NOLINT_NEXT_LINE(whitespace/operators)
    LSEMarginGradient<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, C_, scale_,
        own_scale ? NULL : bottom[2]->gpu_data(), top[0]->gpu_diff(), bottom[0]->mutable_gpu_diff());
    CUDA_POST_KERNEL_CHECK;
  }
}

INSTANTIATE_LAYER_GPU_FUNCS(GlobalLSEMarginLayer);

}  // namespace caffe
