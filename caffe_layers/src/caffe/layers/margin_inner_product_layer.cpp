#include <cmath>
#include <vector>

#include "caffe/layers/margin_inner_product_layer.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
void MarginInnerProductLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const MarginInnerProductParameter& param = this->layer_param_.margin_inner_product_param();
  this->ReadParameter(param, param.exact_gradient());
  BaseMarginInnerProductLayer<Dtype>::LayerSetUp(bottom, top);
  if (this->exact_gradient_) {
    unit_gradient_.ReshapeLike(*this->blobs_[0]);
  }
}

template <typename Dtype>
void MarginInnerProductLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  unit_rows_.Forward_cpu(this->phase_, UnitEps(), this->blobs_[0].get());
  this->MarginForward_cpu(unit_rows_.unit(), bottom, top);
}

template <typename Dtype>
void MarginInnerProductLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  const bool wanted = this->param_propagate_down_[0];
  if (!wanted || !this->exact_gradient_) {
    this->MarginBackward_cpu(unit_rows_.unit(), top, propagate_down, bottom, Dtype(1),
        wanted ? this->blobs_[0]->mutable_cpu_diff() : NULL);
    return;
  }
  Dtype* unit_gradient = unit_gradient_.mutable_cpu_diff();
  this->MarginBackward_cpu(unit_rows_.unit(), top, propagate_down, bottom, Dtype(0), unit_gradient);
  const Dtype* weight = this->blobs_[0]->cpu_data();
  Dtype* gradient = this->blobs_[0]->mutable_cpu_diff();
  for (int j = 0; j < this->N_; ++j) {
    const size_t row = static_cast<size_t>(j) * this->K_;
    const Dtype square = caffe_cpu_dot(this->K_, weight + row, weight + row) + UnitEps();
    const Dtype length = std::sqrt(square);
    const Dtype along = caffe_cpu_dot(this->K_, weight + row, unit_gradient + row) / square;
    caffe_axpy(this->K_, Dtype(1) / length, unit_gradient + row, gradient + row);
    caffe_axpy(this->K_, -along / length, weight + row, gradient + row);
  }
}

#ifdef CPU_ONLY
STUB_GPU(MarginInnerProductLayer);
#endif

INSTANTIATE_CLASS(MarginInnerProductLayer);
REGISTER_LAYER_CLASS(MarginInnerProduct);

}  // namespace caffe
