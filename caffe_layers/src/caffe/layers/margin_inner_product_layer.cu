#include <vector>

#include "caffe/layers/margin_inner_product_layer.hpp"
#include "caffe/util/block_reduce.cuh"

namespace caffe {

// gradient (rows, size) += that by the weight, from that by its unit rows; a block a row.
template <typename Dtype>
__global__ void AddGradientThroughUnitRows(const int rows, const int size, const Dtype eps, const Dtype* weight,
    const Dtype* unit_gradient, Dtype* gradient) {
  for (int j = blockIdx.x; j < rows; j += gridDim.x) {
    const size_t row = static_cast<size_t>(j) * size;
    Dtype square = 0, dot = 0;
    for (int k = threadIdx.x; k < size; k += blockDim.x) {
      square += weight[row + k] * weight[row + k];
      dot += weight[row + k] * unit_gradient[row + k];
    }
    square = BlockSum(square) + eps;
    const Dtype along = BlockSum(dot) / square;
    const Dtype length = sqrt(square);
    for (int k = threadIdx.x; k < size; k += blockDim.x) {
      gradient[row + k] += (unit_gradient[row + k] - along * weight[row + k]) / length;
    }
  }
}

template <typename Dtype>
void MarginInnerProductLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  unit_rows_.Forward_gpu(this->phase_, UnitEps(), this->blobs_[0].get());
  this->MarginForward_gpu(unit_rows_.unit(), bottom, top);
}

template <typename Dtype>
void MarginInnerProductLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  const bool wanted = this->param_propagate_down_[0];
  if (!wanted || !this->exact_gradient_) {
    this->MarginBackward_gpu(unit_rows_.unit(), top, propagate_down, bottom, Dtype(1),
        wanted ? this->blobs_[0]->mutable_gpu_diff() : NULL);
    return;
  }
  Dtype* unit_gradient = unit_gradient_.mutable_gpu_diff();
  this->MarginBackward_gpu(unit_rows_.unit(), top, propagate_down, bottom, Dtype(0), unit_gradient);
  // NOLINT_NEXT_LINE(whitespace/operators)
  AddGradientThroughUnitRows<Dtype><<<RowBlocks(this->N_), RowThreads(this->K_)>>>(this->N_, this->K_, UnitEps(),
      this->blobs_[0]->gpu_data(), unit_gradient, this->blobs_[0]->mutable_gpu_diff());
  CUDA_POST_KERNEL_CHECK;
}

INSTANTIATE_LAYER_GPU_FUNCS(MarginInnerProductLayer);

}  // namespace caffe
