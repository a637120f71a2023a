#include <algorithm>
#include <vector>

#include "caffe/layers/inner_distance_layer.hpp"
#include "caffe/util/block_reduce.cuh"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/class_samples.cuh"
#include "caffe/util/distance_math.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

// Side of the square of distances that a block of TILE * TILE threads makes.
#define TILE 16

// |row|^2, a block a row.
template <typename Dtype>
__global__ void RowSquares(const int rows, const int size, const Dtype* x, Dtype* squares) {
  for (int i = blockIdx.x; i < rows; i += gridDim.x) {
    Dtype sum = 0;
    for (int k = threadIdx.x; k < size; k += blockDim.x) {
      const Dtype value = x[static_cast<size_t>(i) * size + k];
      sum += value * value;
    }
    sum = BlockSum(sum);
    if (threadIdx.x == 0) {
      squares[i] = sum;
    }
  }
}

// d holds -2 x.w and gets |x - w|^2.
template <typename Dtype>
__global__ void DistanceFromCross(const int nthreads, const int N, const int K, const Dtype* x, const Dtype* w,
    const Dtype* x_squares, const Dtype* w_squares, Dtype* d) {
  CUDA_KERNEL_LOOP(index, nthreads) {
    const int i = index / N;
    const int j = index % N;
    d[index] = SquaredDistance(K, x + static_cast<size_t>(i) * K, w + static_cast<size_t>(j) * K,
        x_squares[i] + w_squares[j], d[index]);
  }
}

// A block makes TILE x TILE distances, TILE features at a time: every number is read from memory once a tile.
template <typename Dtype>
__global__ void AbsoluteDistances(const int M, const int N, const int K, const Dtype* x, const Dtype* w, Dtype* d) {
  __shared__ Dtype x_tile[TILE][TILE + 1];
  __shared__ Dtype w_tile[TILE][TILE + 1];
  const int tiles = (N + TILE - 1) / TILE;
  const int column = threadIdx.x % TILE;
  const int row = threadIdx.x / TILE;
  const int i0 = blockIdx.x / tiles * TILE;
  const int j0 = blockIdx.x % tiles * TILE;
  Dtype sum = 0;
  for (int k0 = 0; k0 < K; k0 += TILE) {
    const int k = k0 + column;
    x_tile[row][column] = i0 + row < M && k < K ? x[static_cast<size_t>(i0 + row) * K + k] : Dtype(0);
    w_tile[row][column] = j0 + row < N && k < K ? w[static_cast<size_t>(j0 + row) * K + k] : Dtype(0);
    __syncthreads();
    for (int t = 0; t < TILE; ++t) {
      const Dtype apart = x_tile[row][t] - w_tile[column][t];
      sum += apart < 0 ? -apart : apart;
    }
    __syncthreads();
  }
  if (i0 + row < M && j0 + column < N) {
    d[static_cast<size_t>(i0 + row) * N + j0 + column] = sum;
  }
}

// to (rows, size) = keep * to + the gradient of sum g |from - other| by `from`; g of row r and other row o lies at
// r * row_step + o * other_step. A block makes TILE rows x TILE features, TILE other rows at a time, so that these are
// read once a tile of rows. The terms are added in the order of the other rows, as on the host.
template <typename Dtype>
__global__ void AbsoluteGradients(const int rows, const int others, const int size, const bool exact,
    const int row_step, const int other_step, const Dtype* g, const Dtype* from, const Dtype* other, const Dtype keep,
    Dtype* to) {
  __shared__ Dtype g_tile[TILE][TILE + 1];
  __shared__ Dtype other_tile[TILE][TILE];
  const int tiles = (size + TILE - 1) / TILE;
  const int column = threadIdx.x % TILE;
  const int row = threadIdx.x / TILE;
  const int i0 = blockIdx.x / tiles * TILE;
  const int k = blockIdx.x % tiles * TILE + column;
  const bool inside = i0 + row < rows && k < size;
  const size_t at = static_cast<size_t>(i0 + row) * size + k;
  const Dtype own = inside ? from[at] : Dtype(0);
  // Neighbouring threads read neighbouring numbers of g, whichever way it lies.
  const int g_row = row_step == 1 ? column : row;
  const int g_other = row_step == 1 ? row : column;
  Dtype sum = 0;
  for (int o0 = 0; o0 < others; o0 += TILE) {
    g_tile[g_row][g_other] = i0 + g_row < rows && o0 + g_other < others
        ? g[static_cast<size_t>(i0 + g_row) * row_step + static_cast<size_t>(o0 + g_other) * other_step] : Dtype(0);
    other_tile[row][column] = o0 + row < others && k < size
        ? other[static_cast<size_t>(o0 + row) * size + k] : Dtype(0);
    __syncthreads();
    const int there = others - o0 < TILE ? others - o0 : TILE;
    for (int t = 0; t < there; ++t) {
      sum += AbsoluteGradient(exact, g_tile[row][t], own, other_tile[t][column]);
    }
    __syncthreads();
  }
  if (inside) {
    to[at] = keep == 0 ? sum : keep * to[at] + sum;
  }
}

// dw (N, K) += the gradient by w of sum g_iy |x_i - w_y| for the labels y. A block a sample; the first one of each
// class takes the later ones along, one after another, as on the host.
template <typename Dtype>
__global__ void OwnRowGradients(const int K, const int M, const int N, const bool l1, const bool exact,
    const Dtype* label, const Dtype* g, const Dtype* x, const Dtype* w, Dtype* dw) {
  for (int first = blockIdx.x; first < M; first += gridDim.x) {
    const int y = ClassOf(label[first]);
    if (y < 0 || NextOfClass(y, 0, first, label) < first) {
      continue;
    }
    const size_t row = static_cast<size_t>(y) * K;
    for (int i = first; i < M; i = NextOfClass(y, i + 1, M, label)) {
      const Dtype slope = g[static_cast<size_t>(i) * N + y];
      for (int k = threadIdx.x; k < K; k += blockDim.x) {
        dw[row + k] += DistanceGradient(l1, exact, slope, w[row + k], x[static_cast<size_t>(i) * K + k]);
      }
    }
  }
}

// to (rows, size) += factors (rows) * x (rows, size)
template <typename Dtype>
__global__ void AddScaledRows(const int nthreads, const int size, const Dtype* factors, const Dtype* x, Dtype* to) {
  CUDA_KERNEL_LOOP(index, nthreads) {
    to[index] += factors[index / size] * x[index];
  }
}

// Tiles of a (rows, columns) matrix.
static int Tiles(int rows, int columns) { return ((rows + TILE - 1) / TILE) * ((columns + TILE - 1) / TILE); }

template <typename Dtype>
void InnerDistanceLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  if (label_bottom_ >= 0) {
    CheckLabels(this->layer_param_.name(), *bottom[label_bottom_], N_);
  }
  if (normalize_) {
    unit_rows_.Forward_gpu(this->phase_, this->layer_param_.inner_distance_param().normalize_eps(),
        this->blobs_[0].get());
  }
  const Dtype* x = bottom[0]->gpu_data();
  const Dtype* w = Weight(bottom).gpu_data();
  Dtype* d = top[0]->mutable_gpu_data();
  if (l1_) {
    // NOLINT_NEXT_LINE(whitespace/operators)
    AbsoluteDistances<Dtype><<<Tiles(M_, N_), TILE * TILE>>>(M_, N_, K_, x, w, d);
    CUDA_POST_KERNEL_CHECK;
    return;
  }
  Dtype* x_squares = x_squares_.mutable_gpu_data();
  Dtype* w_squares = w_squares_.mutable_gpu_data();
  // NOLINT_NEXT_LINE(whitespace/operators)
  RowSquares<Dtype><<<RowBlocks(M_), RowThreads(K_)>>>(M_, K_, x, x_squares);
  CUDA_POST_KERNEL_CHECK;
  // NOLINT_NEXT_LINE(whitespace/operators)
  RowSquares<Dtype><<<RowBlocks(N_), RowThreads(K_)>>>(N_, K_, w, w_squares);
  CUDA_POST_KERNEL_CHECK;
  caffe_gpu_gemm<Dtype>(CblasNoTrans, CblasTrans, M_, N_, K_, Dtype(-2), x, w, Dtype(0), d);
  const int count = M_ * N_;
  // NOLINT_NEXT_LINE(whitespace/operators)
  DistanceFromCross<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, N_, K_, x, w, x_squares,
      w_squares, d);
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
void InnerDistanceLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (label_bottom_ >= 0 && propagate_down[label_bottom_]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  const Dtype* g = top[0]->gpu_diff();
  const Dtype* x = bottom[0]->gpu_data();
  const Dtype* w = Weight(bottom).gpu_data();
  if (Blob<Dtype>* weight = WeightGradient(propagate_down, bottom)) {
    Dtype* dw = weight->mutable_gpu_diff();
    const Dtype keep = weight_is_bottom_ ? 0 : 1;  // a blob's gradients add up, a bottom's do not
    const int count = N_ * K_;
    if (label_bottom_ >= 0) {
      if (keep == 0) {
        caffe_gpu_set(count, Dtype(0), dw);
      }
      // NOLINT_NEXT_LINE(whitespace/operators)
      OwnRowGradients<Dtype><<<RowBlocks(M_), RowThreads(std::max(M_, K_))>>>(K_, M_, N_, l1_, exact_gradient_,
          bottom[label_bottom_]->gpu_data(), g, x, w, dw);
    } else if (l1_) {
      // NOLINT_NEXT_LINE(whitespace/operators)
      AbsoluteGradients<Dtype><<<Tiles(N_, K_), TILE * TILE>>>(N_, M_, K_, exact_gradient_, 1, N_, g, w, x, keep, dw);
    } else {
      caffe_gpu_gemm<Dtype>(CblasTrans, CblasNoTrans, N_, K_, M_, Dtype(-2), g, x, keep, dw);
      Dtype* sums = w_squares_.mutable_gpu_diff();
      caffe_gpu_gemv<Dtype>(CblasTrans, M_, N_, Dtype(2), g, ones_.gpu_data(), Dtype(0), sums);
      // NOLINT_NEXT_LINE(whitespace/operators)
      AddScaledRows<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, K_, sums, w, dw);
    }
    CUDA_POST_KERNEL_CHECK;
  }
  if (!propagate_down[0]) {
    return;
  }
  Dtype* dx = bottom[0]->mutable_gpu_diff();
  const int count = M_ * K_;
  if (l1_) {
    // NOLINT_NEXT_LINE(whitespace/operators)
    AbsoluteGradients<Dtype><<<Tiles(M_, K_), TILE * TILE>>>(M_, N_, K_, exact_gradient_, N_, 1, g, x, w, Dtype(0),
        dx);
  } else {
    caffe_gpu_gemm<Dtype>(CblasNoTrans, CblasNoTrans, M_, K_, N_, Dtype(-2), g, w, Dtype(0), dx);
    Dtype* sums = x_squares_.mutable_gpu_diff();
    caffe_gpu_gemv<Dtype>(CblasNoTrans, M_, N_, Dtype(2), g, ones_.gpu_data(), Dtype(0), sums);
    // NOLINT_NEXT_LINE(whitespace/operators)
    AddScaledRows<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, K_, sums, x, dx);
  }
  CUDA_POST_KERNEL_CHECK;
}

INSTANTIATE_LAYER_GPU_FUNCS(InnerDistanceLayer);

}  // namespace caffe
