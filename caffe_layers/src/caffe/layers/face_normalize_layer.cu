#include <vector>

#include "caffe/layers/face_normalize_layer.hpp"
#include "caffe/util/block_reduce.cuh"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
__device__ __forceinline__ Dtype NormTerm(const bool l1, const Dtype x) {
  return l1 ? (x < 0 ? -x : x) : x * x;
}

template <typename Dtype>
__device__ __forceinline__ Dtype NormSlope(const bool l1, const Dtype y) {
  return l1 ? Dtype((y > 0) - (y < 0)) : y;
}

// Features without positions, (rows, channels): a block a row.
template <typename Dtype>
__global__ void NormalizeRows(const int rows, const int channels, const bool l1, const Dtype eps, const Dtype* x,
    Dtype* norms, Dtype* y) {
  for (int n = blockIdx.x; n < rows; n += gridDim.x) {
    const size_t row = static_cast<size_t>(n) * channels;
    Dtype sum = 0;
    for (int c = threadIdx.x; c < channels; c += blockDim.x) {
      sum += NormTerm(l1, x[row + c]);
    }
    sum = BlockSum(sum) + eps;
    const Dtype norm = l1 ? sum : sqrt(sum);
    for (int c = threadIdx.x; c < channels; c += blockDim.x) {
      y[row + c] = x[row + c] / norm;
    }
    if (threadIdx.x == 0) {
      norms[n] = norm;
    }
  }
}

template <typename Dtype>
__global__ void NormalizeRowsBackward(const int rows, const int channels, const bool l1, const bool fix_gradient,
    const Dtype* norms, const Dtype* norm_diff, const Dtype* y, const Dtype* g, Dtype* dx) {
  for (int n = blockIdx.x; n < rows; n += gridDim.x) {
    const size_t row = static_cast<size_t>(n) * channels;
    Dtype dot = 0;
    for (int c = threadIdx.x; c < channels; c += blockDim.x) {
      dot += g[row + c] * y[row + c];
    }
    const Dtype rate = fix_gradient ? Dtype(1) : Dtype(1) / norms[n];
    const Dtype along = (norm_diff ? norm_diff[n] : Dtype(0)) - rate * BlockSum(dot);
    for (int c = threadIdx.x; c < channels; c += blockDim.x) {
      dx[row + c] = g[row + c] * rate + along * NormSlope(l1, y[row + c]);
    }
  }
}

// Feature maps, (num, channels, spatial): a lane a position, so that neighbouring threads read neighbouring numbers, and
// the warps of a block share its positions' channels, so that small maps keep a device busy too.
template <typename Dtype>
__global__ void NormalizePositions(const int positions, const int channels, const int spatial, const bool l1,
    const Dtype eps, const Dtype* x, Dtype* norms, Dtype* y) {
  const int warp = threadIdx.x / CAFFE_FACE_WARP;
  const int warps = blockDim.x / CAFFE_FACE_WARP;
  const int lane = threadIdx.x % CAFFE_FACE_WARP;
  for (int first = blockIdx.x * CAFFE_FACE_WARP; first < positions; first += gridDim.x * CAFFE_FACE_WARP) {
    const int index = first + lane;
    const int last = index < positions ? channels : 0;
    const size_t start = static_cast<size_t>(index / spatial) * channels * spatial + index % spatial;
    Dtype sum = 0;
    for (int c = warp; c < last; c += warps) {
      sum += NormTerm(l1, x[start + static_cast<size_t>(c) * spatial]);
    }
    sum = SumAcrossWarps(sum) + eps;
    const Dtype norm = l1 ? sum : sqrt(sum);
    for (int c = warp; c < last; c += warps) {
      const size_t i = start + static_cast<size_t>(c) * spatial;
      y[i] = x[i] / norm;
    }
    if (warp == 0 && last > 0) {
      norms[index] = norm;
    }
  }
}

template <typename Dtype>
__global__ void NormalizePositionsBackward(const int positions, const int channels, const int spatial, const bool l1,
    const bool fix_gradient, const Dtype* norms, const Dtype* norm_diff, const Dtype* y, const Dtype* g, Dtype* dx) {
  const int warp = threadIdx.x / CAFFE_FACE_WARP;
  const int warps = blockDim.x / CAFFE_FACE_WARP;
  const int lane = threadIdx.x % CAFFE_FACE_WARP;
  for (int first = blockIdx.x * CAFFE_FACE_WARP; first < positions; first += gridDim.x * CAFFE_FACE_WARP) {
    const int index = first + lane;
    const int last = index < positions ? channels : 0;
    const size_t start = static_cast<size_t>(index / spatial) * channels * spatial + index % spatial;
    Dtype dot = 0;
    for (int c = warp; c < last; c += warps) {
      const size_t i = start + static_cast<size_t>(c) * spatial;
      dot += g[i] * y[i];
    }
    dot = SumAcrossWarps(dot);
    const Dtype rate = fix_gradient || last == 0 ? Dtype(1) : Dtype(1) / norms[index];
    const Dtype along = (norm_diff && last > 0 ? norm_diff[index] : Dtype(0)) - rate * dot;
    for (int c = warp; c < last; c += warps) {
      const size_t i = start + static_cast<size_t>(c) * spatial;
      dx[i] = g[i] * rate + along * NormSlope(l1, y[i]);
    }
  }
}

// Blocks and threads of a block for `positions` positions of `channels` channels.
static int PositionBlocks(int positions) { return RowBlocks((positions + CAFFE_FACE_WARP - 1) / CAFFE_FACE_WARP); }
static int PositionThreads(int channels) { return RowThreads(CAFFE_FACE_WARP * (channels < 8 ? channels : 8)); }

template <typename Dtype>
void FaceNormalizeLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const Dtype* x = bottom[0]->gpu_data();
  Dtype* y = top[0]->mutable_gpu_data();
  Dtype* norms = norm_.mutable_gpu_data();
  if (spatial_ == 1) {
    // NOLINT_NEXT_LINE(whitespace/operators)
    NormalizeRows<Dtype><<<RowBlocks(num_), RowThreads(channels_)>>>(num_, channels_, l1_, eps_, x, norms, y);
  } else {
    const int positions = num_ * spatial_;
    // NOLINT_NEXT_LINE(whitespace/operators)
    NormalizePositions<Dtype><<<PositionBlocks(positions), PositionThreads(channels_)>>>(positions, channels_,
        spatial_, l1_, eps_, x, norms, y);
  }
  CUDA_POST_KERNEL_CHECK;
  if (top.size() > 1) {
    caffe_copy(norm_.count(), norm_.gpu_data(), top[1]->mutable_gpu_data());
  }
}

template <typename Dtype>
void FaceNormalizeLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (!propagate_down[0]) {
    return;
  }
  const Dtype* g = top[0]->gpu_diff();
  const Dtype* y = top[0]->gpu_data();
  const Dtype* norms = norm_.gpu_data();
  const Dtype* norm_diff = NormCounts(top) ? top[1]->gpu_diff() : NULL;
  Dtype* dx = bottom[0]->mutable_gpu_diff();
  if (spatial_ == 1) {
    // NOLINT_NEXT_LINE(whitespace/operators)
    NormalizeRowsBackward<Dtype><<<RowBlocks(num_), RowThreads(channels_)>>>(num_, channels_, l1_, fix_gradient_,
        norms, norm_diff, y, g, dx);
  } else {
    const int positions = num_ * spatial_;
    // NOLINT_NEXT_LINE(whitespace/operators)
    NormalizePositionsBackward<Dtype><<<PositionBlocks(positions), PositionThreads(channels_)>>>(positions, channels_,
        spatial_, l1_, fix_gradient_, norms, norm_diff, y, g, dx);
  }
  CUDA_POST_KERNEL_CHECK;
}

INSTANTIATE_LAYER_GPU_FUNCS(FaceNormalizeLayer);

}  // namespace caffe
