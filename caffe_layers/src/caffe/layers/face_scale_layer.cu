#include <vector>

#include "caffe/layers/face_scale_layer.hpp"
#include "caffe/util/device_alternate.hpp"

namespace caffe {

// A scale that is no number stays so, as on the CPU. `from` may be `to`.
template <typename Dtype>
__global__ void BoundScale(const int nthreads, const Dtype min_value, const Dtype max_value, const Dtype* from,
    Dtype* to) {
  CUDA_KERNEL_LOOP(index, nthreads) {
    const Dtype scale = from[index];
    to[index] = scale < min_value ? min_value : (scale > max_value ? max_value : scale);
  }
}

template <typename Dtype>
void FaceScaleLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const int count = this->blobs_[0]->count();
  const Dtype* scale = this->blobs_[0]->gpu_data();
  Dtype* bounded = Target()->mutable_gpu_data();
  // NOLINT_NEXT_LINE(whitespace/operators)
  BoundScale<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, min_value_, max_value_, scale,
      bounded);
  CUDA_POST_KERNEL_CHECK;
  Exchange();
  ScaleLayer<Dtype>::Forward_gpu(bottom, top);
  Exchange();
}

template <typename Dtype>
void FaceScaleLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  Exchange();
  ScaleLayer<Dtype>::Backward_gpu(top, propagate_down, bottom);
  Exchange();
}

INSTANTIATE_LAYER_GPU_FUNCS(FaceScaleLayer);

}  // namespace caffe
