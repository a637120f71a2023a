#include <vector>

#include "caffe/layers/face_inner_product_layer.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
void FaceInnerProductLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  if (normalize_) {
    unit_rows_.Forward_gpu(this->phase_, this->layer_param_.inner_product_param().normalize_eps(),
        this->blobs_[0].get());
  }
  Dtype* y = top[0]->mutable_gpu_data();
  caffe_gpu_gemm<Dtype>(CblasNoTrans, transpose_ ? CblasNoTrans : CblasTrans, M_, N_, K_, Dtype(1),
      bottom[0]->gpu_data(), Weight(bottom).gpu_data(), Dtype(0), y);
  if (const Blob<Dtype>* bias = Bias(bottom)) {
    caffe_gpu_gemm<Dtype>(CblasNoTrans, CblasNoTrans, M_, N_, 1, Dtype(1), bias_multiplier_.gpu_data(),
        bias->gpu_data(), Dtype(1), y);
  }
}

template <typename Dtype>
void FaceInnerProductLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  const Dtype* g = top[0]->gpu_diff();
  const Dtype* x = bottom[0]->gpu_data();
  const Dtype keep = bottom.size() > 1 ? 0 : 1;  // blobs' gradients add up, bottoms' do not
  if (Blob<Dtype>* weight = GradientOf(0, propagate_down, bottom)) {
    if (transpose_) {
      caffe_gpu_gemm<Dtype>(CblasTrans, CblasNoTrans, K_, N_, M_, Dtype(1), x, g, keep, weight->mutable_gpu_diff());
    } else {
      caffe_gpu_gemm<Dtype>(CblasTrans, CblasNoTrans, N_, K_, M_, Dtype(1), g, x, keep, weight->mutable_gpu_diff());
    }
  }
  if (Blob<Dtype>* bias = GradientOf(1, propagate_down, bottom)) {
    caffe_gpu_gemv<Dtype>(CblasTrans, M_, N_, Dtype(1), g, bias_multiplier_.gpu_data(), keep,
        bias->mutable_gpu_diff());
  }
  if (propagate_down[0]) {
    caffe_gpu_gemm<Dtype>(CblasNoTrans, transpose_ ? CblasTrans : CblasNoTrans, M_, K_, N_, Dtype(1), g,
        Weight(bottom).gpu_data(), Dtype(0), bottom[0]->mutable_gpu_diff());
  }
}

INSTANTIATE_LAYER_GPU_FUNCS(FaceInnerProductLayer);

}  // namespace caffe
