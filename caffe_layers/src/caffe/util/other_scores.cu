#include <vector>

#include "caffe/util/block_reduce.cuh"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/other_scores.hpp"

namespace caffe {

// A block a sample; result is (OTHER_SCORES_ROWS, rows).
template <typename Dtype>
__global__ void OtherScoresOfRows(const int rows, const int classes, const Dtype* x, const Dtype* label,
    const Dtype* scales, const Dtype scale, Dtype* result) {
  for (int i = blockIdx.x; i < rows; i += gridDim.x) {
    const Dtype* row = x + static_cast<size_t>(i) * classes;
    const int own = ClassOf(label[i]);
    const Dtype factor = scales ? scales[i] : scale;
    Dtype largest = 0;
    int at = classes;
    for (int j = threadIdx.x; j < classes && own >= 0; j += blockDim.x) {
      if (j != own && (at == classes || row[j] > largest)) {
        largest = row[j];
        at = j;
      }
    }
    // A thread without a score must not win with its 0.
    if (at == classes) {
      largest = own < 0 ? Dtype(0) : row[own == 0 && classes > 1 ? 1 : 0];
    }
    BlockArgMax(&largest, &at);
    Dtype sum = 0, exponentials = 0, weighted = 0;
    for (int j = threadIdx.x; j < classes && own >= 0; j += blockDim.x) {
      if (j != own) {
        const Dtype exponential = exp(factor * (row[j] - largest));
        sum += row[j];
        exponentials += exponential;
        weighted += row[j] * exponential;
      }
    }
    sum = BlockSum(sum);
    exponentials = BlockSum(exponentials);
    weighted = BlockSum(weighted);
    if (threadIdx.x == 0) {
      result[OWN_SCORE * rows + i] = own < 0 ? Dtype(0) : row[own];
      result[LARGEST_OTHER * rows + i] = own < 0 || classes == 1 ? Dtype(0) : largest;
      result[SUM_OF_OTHERS * rows + i] = sum;
      result[EXPONENTIALS * rows + i] = exponentials;
      result[WEIGHTED_SCORES * rows + i] = weighted;
    }
  }
}

template <typename Dtype>
__global__ void PutValuesAtLabels(const int nthreads, const int classes, const Dtype* label, const Dtype* values,
    Dtype* y) {
  CUDA_KERNEL_LOOP(i, nthreads) {
    const int own = ClassOf(label[i]);
    if (own >= 0) {
      y[static_cast<size_t>(i) * classes + own] = values[i];
    }
  }
}

template <typename Dtype>
void OtherScoresGPU(const Blob<Dtype>& x, const Blob<Dtype>& label, const Blob<Dtype>* scales, Dtype scale,
    Blob<Dtype>* result) {
  const int rows = label.count();
  const int classes = x.count() / rows;
  vector<int> shape(2, rows);
  shape[0] = OTHER_SCORES_ROWS;
  result->Reshape(shape);
  // NOLINT_NEXT_LINE(whitespace/operators)
  OtherScoresOfRows<Dtype><<<RowBlocks(rows), RowThreads(classes)>>>(rows, classes, x.gpu_data(), label.gpu_data(),
      scales ? scales->gpu_data() : NULL, scale, result->mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
void PutAtLabelsGPU(const Blob<Dtype>& label, const Blob<Dtype>& values, Blob<Dtype>* y) {
  const int rows = label.count();
  // NOLINT_NEXT_LINE(whitespace/operators)
  PutValuesAtLabels<Dtype><<<CAFFE_GET_BLOCKS(rows), CAFFE_CUDA_NUM_THREADS>>>(rows, y->count() / rows,
      label.gpu_data(), values.gpu_data(), y->mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
}

#define INSTANTIATE_OTHER_SCORES_GPU(Dtype) \
  template void OtherScoresGPU<Dtype>(const Blob<Dtype>& x, const Blob<Dtype>& label, const Blob<Dtype>* scales, \
      Dtype scale, Blob<Dtype>* result); \
  template void PutAtLabelsGPU<Dtype>(const Blob<Dtype>& label, const Blob<Dtype>& values, Blob<Dtype>* y)

INSTANTIATE_OTHER_SCORES_GPU(float);
INSTANTIATE_OTHER_SCORES_GPU(double);

}  // namespace caffe
