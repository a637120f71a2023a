#include <vector>

#include "caffe/layers/base_angle_margin_layer.hpp"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/combined_angle.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

// A thread a sample; scores is (2, N).
template <typename Dtype>
__global__ void AngleAtLabels(const int nthreads, const int classes, const CombinedAngle<Dtype> angle, const Dtype* x,
    const Dtype* label, Dtype* scores) {
  CUDA_KERNEL_LOOP(i, nthreads) {
    const int own = ClassOf(label[i]);
    Dtype score = own < 0 ? Dtype(0) : x[static_cast<size_t>(i) * classes + own];
    Dtype slope = 1;
    if (own >= 0) {
      CosineWithAngle(angle, &score, &slope);
    }
    scores[i] = score;
    scores[nthreads + i] = slope;
  }
}

// factors is NULL where t is 1.
template <typename Dtype>
__global__ void AngleForward(const int nthreads, const int classes, const Dtype t, const Dtype scale, const Dtype* x,
    const Dtype* label, const Dtype* scores, Dtype* factors, Dtype* y) {
  CUDA_KERNEL_LOOP(index, nthreads) {
    const int i = index / classes;
    const int own = ClassOf(label[i]);
    Dtype value = x[index];
    if (index % classes == own) {
      value = scores[i];
      if (factors) {
        factors[index] = 1;
      }
    } else if (factors) {
      const bool hard = own >= 0 && value > scores[i];
      factors[index] = hard ? t : Dtype(1);
      value = hard ? t * value + t - 1 : value;
    }
    y[index] = scale * value;
  }
}

template <typename Dtype>
__global__ void AngleBackward(const int nthreads, const int rows, const int classes, const Dtype scale, const Dtype* g,
    const Dtype* label, const Dtype* scores, const Dtype* factors, Dtype* dx) {
  CUDA_KERNEL_LOOP(index, nthreads) {
    const int i = index / classes;
    Dtype factor = scale;
    if (index % classes == ClassOf(label[i])) {
      factor *= scores[rows + i];
    } else if (factors) {
      factor *= factors[index];
    }
    dx[index] = factor * g[index];
  }
}

template <typename Dtype>
void BaseAngleMarginLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const int count = top[0]->count();
  if (!acts_) {
    if (top[0] != bottom[0]) {
      caffe_copy(count, bottom[0]->gpu_data(), top[0]->mutable_gpu_data());
    }
    return;
  }
  const int labelled = CheckLabels(this->layer_param_.name(), *bottom[1], C_);
  scale_ = Scale_gpu(bottom, labelled);
  const CombinedAngle<Dtype> angle(m1_, m2_, m3_);
  const Dtype* x = bottom[0]->gpu_data();
  const Dtype* label = bottom[1]->gpu_data();
  // NOLINT_NEXT_LINE(whitespace/operators)
  AngleAtLabels<Dtype><<<CAFFE_GET_BLOCKS(N_), CAFFE_CUDA_NUM_THREADS>>>(N_, C_, angle, x, label,
      scores_.mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
  Dtype* factors = t_ == 1 ? NULL : factors_.mutable_gpu_data();
  // NOLINT_NEXT_LINE(whitespace/operators)
  AngleForward<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, C_, t_, scale_, x, label,
      scores_.gpu_data(), factors, top[0]->mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
void BaseAngleMarginLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  if (!propagate_down[0]) {
    return;
  }
  const int count = top[0]->count();
  if (!acts_) {
    if (top[0] != bottom[0]) {
      caffe_copy(count, top[0]->gpu_diff(), bottom[0]->mutable_gpu_diff());
    }
    return;
  }
  const Dtype* factors = t_ == 1 ? NULL : factors_.gpu_data();
  // NOLINT_NEXT_LINE(whitespace/operators)
  AngleBackward<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, N_, C_, scale_,
      top[0]->gpu_diff(), bottom[1]->gpu_data(), scores_.gpu_data(), factors, bottom[0]->mutable_gpu_diff());
  CUDA_POST_KERNEL_CHECK;
}

INSTANTIATE_LAYER_GPU_FUNCS(BaseAngleMarginLayer);

}  // namespace caffe
