#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "caffe/layers/ada_cos_addm_scale_layer.hpp"
#include "caffe/util/check_labels.hpp"

namespace caffe {

template <typename Dtype>
void AdaCosAddmScaleLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const AdaCosAddmScaleParameter& param = this->layer_param_.adacos_add_m_scale_param();
  CHECK_GT(param.num_classes(), 2) << "Layer " << this->layer_param_.name() << ": expected a num_classes above 2";
  this->m2_ = param.m();
  this->scale_ = std::sqrt(2.) * std::log(param.num_classes() - 1.);
  this->transform_test_ = param.transform_test();
  BaseAngleMarginLayer<Dtype>::LayerSetUp(bottom, top);
}

template <typename Dtype>
void AdaCosAddmScaleLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  BaseAngleMarginLayer<Dtype>::Reshape(bottom, top);
  vector<int> row_sums_shape(2, this->N_);
  row_sums_shape[0] = 2;
  row_sums_.Reshape(row_sums_shape);
}

template <typename Dtype>
Dtype AdaCosAddmScaleLayer<Dtype>::NextScale(double angles, double exponentials, int labelled) const {
  if (labelled == 0) {
    return this->scale_;
  }
  const double angle = std::min(angles / labelled / this->C_, std::atan(1.));  // pi / 4
  return std::log(exponentials / labelled) / std::cos(angle);
}

template <typename Dtype>
Dtype AdaCosAddmScaleLayer<Dtype>::Scale_cpu(const vector<Blob<Dtype>*>& bottom, int labelled) {
  const Dtype* label = bottom[1]->cpu_data();
  double angles = 0, exponentials = 0;
  for (int i = 0; i < this->N_; ++i) {
    const Dtype* x = bottom[0]->cpu_data() + static_cast<size_t>(i) * this->C_;
    const int own = ClassOf(label[i]);
    for (int j = 0; j < this->C_ && own >= 0; ++j) {
      angles += std::acos(std::min(std::max(x[j], Dtype(-1)), Dtype(1)));
      exponentials += j == own ? 1. : std::exp(static_cast<double>(this->scale_) * x[j]);
    }
  }
  return NextScale(angles, exponentials, labelled);
}

#ifdef CPU_ONLY
template <typename Dtype>
Dtype AdaCosAddmScaleLayer<Dtype>::Scale_gpu(const vector<Blob<Dtype>*>& bottom, int labelled) {
  NO_GPU;
  return 0;
}
#endif

INSTANTIATE_CLASS(AdaCosAddmScaleLayer);
REGISTER_LAYER_CLASS(AdaCosAddmScale);

}  // namespace caffe
