#include <algorithm>
#include <vector>

#include "caffe/layer_factory.hpp"
#include "caffe/layers/flip_layer.hpp"

namespace caffe {

template <typename Dtype>
void FlipLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  flip_width_ = this->layer_param_.flip_param().flip_width();
  flip_height_ = this->layer_param_.flip_param().flip_height();
}

template <typename Dtype>
void FlipLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  CHECK(bottom[0] != top[0]) << "Layer " << this->layer_param_.name() << ": expected a top of another name than the "
      << "bottom's; an image can't be mirrored in place";
  CHECK_EQ(bottom[0]->num_axes(), 4) << "Layer " << this->layer_param_.name()
      << ": expected a bottom of 4 axes (N, C, H, W), got " << bottom[0]->shape_string();
  planes_ = bottom[0]->count(0, 2);
  height_ = bottom[0]->shape(2);
  width_ = bottom[0]->shape(3);
  top[0]->ReshapeLike(*bottom[0]);
}

template <typename Dtype>
void FlipLayer<Dtype>::FlipCPU(const Dtype* from, Dtype* to) const {
  for (int plane = 0; plane < planes_; ++plane) {
    for (int h = 0; h < height_; ++h) {
      const Dtype* row = from + (flip_height_ ? height_ - 1 - h : h) * width_;
      if (flip_width_) {
        std::reverse_copy(row, row + width_, to);
      } else {
        std::copy(row, row + width_, to);
      }
      to += width_;
    }
    from += height_ * width_;
  }
}

template <typename Dtype>
void FlipLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  FlipCPU(bottom[0]->cpu_data(), top[0]->mutable_cpu_data());
}

template <typename Dtype>
void FlipLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[0]) {
    FlipCPU(top[0]->cpu_diff(), bottom[0]->mutable_cpu_diff());
  }
}

#ifdef CPU_ONLY
STUB_GPU(FlipLayer);
#endif

INSTANTIATE_CLASS(FlipLayer);
REGISTER_LAYER_CLASS(Flip);

}  // namespace caffe
