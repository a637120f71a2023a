#include <vector>

#include "caffe/layers/base_margin_inner_product_layer.hpp"
#include "caffe/util/block_reduce.cuh"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/margin_psi.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

// A block a sample. y (M, N) holds x W^T; margins is (3, M).
template <typename Dtype>
__global__ void MarginAtLabels(const int M, const int N, const int K, const int m, const Dtype lambda,
    const bool exact, const Dtype* x, const Dtype* w, const Dtype* label, Dtype* y, Dtype* margins) {
  for (int i = blockIdx.x; i < M; i += gridDim.x) {
    if (label[i] < 0) {
      if (threadIdx.x == 0) {
        margins[i] = margins[M + i] = margins[2 * M + i] = 0;
      }
      continue;
    }
    const size_t j = static_cast<size_t>(label[i]);
    Dtype x_square = 0, w_square = 0;
    for (int k = threadIdx.x; k < K; k += blockDim.x) {
      const Dtype x_value = x[static_cast<size_t>(i) * K + k];
      const Dtype w_value = w[j * K + k];
      x_square += x_value * x_value;
      w_square += w_value * w_value;
    }
    x_square = BlockSum(x_square);
    w_square = BlockSum(w_square);
    if (threadIdx.x == 0) {
      Dtype* score = y + static_cast<size_t>(i) * N + j;
      const LabelMargin<Dtype> made = MarginAtLabel(m, lambda, exact, *score, x_square, w_square);
      *score = made.score;
      margins[i] = made.across;
      margins[M + i] = made.along_x;
      margins[2 * M + i] = made.along_w;
    }
  }
}

// dx (M, K) += what the margin adds to g W
template <typename Dtype>
__global__ void AddMarginToBottomGradient(const int nthreads, const int M, const int N, const int K, const Dtype* g,
    const Dtype* x, const Dtype* w, const Dtype* label, const Dtype* margins, Dtype* dx) {
  CUDA_KERNEL_LOOP(index, nthreads) {
    const int i = index / K;
    if (label[i] < 0) {
      continue;
    }
    const size_t j = static_cast<size_t>(label[i]);
    dx[index] += g[static_cast<size_t>(i) * N + j] * (margins[i] * w[j * K + index % K] + margins[M + i] * x[index]);
  }
}

// dw (N, K) += what the margin adds to g^T x. A block a sample; the first one of each class takes the later ones along,
// so that no two blocks write to a row.
template <typename Dtype>
__global__ void AddMarginToWeightGradient(const int M, const int N, const int K, const Dtype* g, const Dtype* x,
    const Dtype* w, const Dtype* label, const Dtype* margins, Dtype* dw) {
  for (int first = blockIdx.x; first < M; first += gridDim.x) {
    const int y = ClassOf(label[first]);
    if (y < 0) {
      continue;
    }
    const size_t j = y;
    int earlier = 0, later = 0;
    for (int i = threadIdx.x; i < M; i += blockDim.x) {
      const bool same = ClassOf(label[i]) == y;
      earlier += same && i < first;
      later += same && i >= first;
    }
    if (BlockSum(earlier) > 0) {
      continue;
    }
    const int samples = BlockSum(later);
    for (int k = threadIdx.x; k < K; k += blockDim.x) {
      Dtype sum = 0, w_factor = 0;
      for (int i = first, left = samples; left > 0; ++i) {
        if (ClassOf(label[i]) == y) {
          const Dtype slope = g[static_cast<size_t>(i) * N + j];
          sum += slope * margins[i] * x[static_cast<size_t>(i) * K + k];
          w_factor += slope * margins[2 * M + i];
          --left;
        }
      }
      dw[j * K + k] += sum + w_factor * w[j * K + k];
    }
  }
}

template <typename Dtype>
void BaseMarginInnerProductLayer<Dtype>::MarginForward_gpu(const Blob<Dtype>& weight,
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  CheckLabels(this->layer_param_.name(), *bottom[1], N_);
  const Dtype lambda = NextLambda(top);
  const Dtype* x = bottom[0]->gpu_data();
  const Dtype* w = weight.gpu_data();
  Dtype* y = top[0]->mutable_gpu_data();
  caffe_gpu_gemm<Dtype>(CblasNoTrans, CblasTrans, M_, N_, K_, Dtype(1), x, w, Dtype(0), y);
  if (m_ > 1) {
    // NOLINT_NEXT_LINE(whitespace/operators)
    MarginAtLabels<Dtype><<<RowBlocks(M_), RowThreads(K_)>>>(M_, N_, K_, m_, lambda, exact_gradient_, x, w,
        bottom[1]->gpu_data(), y, margins_.mutable_gpu_data());
    CUDA_POST_KERNEL_CHECK;
  }
}

template <typename Dtype>
void BaseMarginInnerProductLayer<Dtype>::MarginBackward_gpu(const Blob<Dtype>& weight,
    const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom,
    Dtype keep, Dtype* dw) {
  RefuseLabelGradient(propagate_down);
  const Dtype* g = top[0]->gpu_diff();
  const Dtype* x = bottom[0]->gpu_data();
  const Dtype* w = weight.gpu_data();
  const Dtype* label = bottom[1]->gpu_data();
  const Dtype* margins = margins_.gpu_data();
  if (dw) {
    caffe_gpu_gemm<Dtype>(CblasTrans, CblasNoTrans, N_, K_, M_, Dtype(1), g, x, keep, dw);
    if (m_ > 1 && exact_gradient_) {
      // NOLINT_NEXT_LINE(whitespace/operators)
      AddMarginToWeightGradient<Dtype><<<RowBlocks(M_), RowThreads(K_)>>>(M_, N_, K_, g, x, w, label, margins, dw);
      CUDA_POST_KERNEL_CHECK;
    }
  }
  if (propagate_down[0]) {
    Dtype* dx = bottom[0]->mutable_gpu_diff();
    caffe_gpu_gemm<Dtype>(CblasNoTrans, CblasNoTrans, M_, K_, N_, Dtype(1), g, w, Dtype(0), dx);
    if (m_ > 1) {
      const int count = M_ * K_;
      // NOLINT_NEXT_LINE(whitespace/operators)
      AddMarginToBottomGradient<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, M_, N_, K_, g, x,
          w, label, margins, dx);
      CUDA_POST_KERNEL_CHECK;
    }
  }
}

#define INSTANTIATE_MARGIN_GPU(Dtype) \
  template void BaseMarginInnerProductLayer<Dtype>::MarginForward_gpu(const Blob<Dtype>& weight, \
      const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top); \
  template void BaseMarginInnerProductLayer<Dtype>::MarginBackward_gpu(const Blob<Dtype>& weight, \
      const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom, \
      Dtype keep, Dtype* dw)

INSTANTIATE_MARGIN_GPU(float);
INSTANTIATE_MARGIN_GPU(double);

}  // namespace caffe
