#include <vector>

#include "caffe/layers/triplet_loss_layer.hpp"
#include "caffe/util/block_reduce.cuh"

namespace caffe {

// A block a triplet.
template <typename Dtype>
__global__ void TripletTerms(const int rows, const int size, const Dtype margin, const Dtype* a, const Dtype* p,
    const Dtype* n, Dtype* terms) {
  for (int i = blockIdx.x; i < rows; i += gridDim.x) {
    const size_t at = static_cast<size_t>(i) * size;
    Dtype sum = 0;
    for (int k = threadIdx.x; k < size; k += blockDim.x) {
      const Dtype near = a[at + k] - p[at + k];
      const Dtype far = a[at + k] - n[at + k];
      sum += near * near - far * far;
    }
    sum = BlockSum(sum) + margin;
    if (threadIdx.x == 0) {
      terms[i] = sum < 0 ? Dtype(0) : sum;  // NaN stays
    }
  }
}

// One block.
template <typename Dtype>
__global__ void TripletTotal(const int rows, const Dtype* terms, Dtype* loss) {
  Dtype sum = 0;
  for (int i = threadIdx.x; i < rows; i += blockDim.x) {
    sum += terms[i];
  }
  sum = BlockSum(sum);
  if (threadIdx.x == 0) {
    *loss = sum / (2 * rows);
  }
}

// to = factor (from - less) for the triplets above 0
template <typename Dtype>
__global__ void TripletDifference(const int nthreads, const int size, const Dtype factor, const Dtype* terms,
    const Dtype* from, const Dtype* less, Dtype* to) {
  CUDA_KERNEL_LOOP(index, nthreads) {
    to[index] = terms[index / size] > 0 ? factor * (from[index] - less[index]) : Dtype(0);
  }
}

template <typename Dtype>
void TripletLossLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const Dtype margin = this->layer_param_.triplet_loss_param().margin();
  // NOLINT_NEXT_LINE(whitespace/operators)
  TripletTerms<Dtype><<<RowBlocks(N_), RowThreads(K_)>>>(N_, K_, margin, bottom[0]->gpu_data(), bottom[1]->gpu_data(),
      bottom[2]->gpu_data(), terms_.mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
  // NOLINT_NEXT_LINE(whitespace/operators)
  TripletTotal<Dtype><<<1, RowThreads(N_)>>>(N_, terms_.gpu_data(), top[0]->mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
void TripletLossLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  const Dtype rate = top[0]->cpu_diff()[0] / N_;
  const int count = bottom[0]->count();
  const int from[] = {2, 1, 0}, less[] = {1, 0, 2};
  for (int i = 0; i < 3; ++i) {
    if (propagate_down[i]) {
      // NOLINT_NEXT_LINE(whitespace/operators)
      TripletDifference<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, K_, rate,
          terms_.gpu_data(), bottom[from[i]]->gpu_data(), bottom[less[i]]->gpu_data(), bottom[i]->mutable_gpu_diff());
      CUDA_POST_KERNEL_CHECK;
    }
  }
}

INSTANTIATE_LAYER_GPU_FUNCS(TripletLossLayer);

}  // namespace caffe
