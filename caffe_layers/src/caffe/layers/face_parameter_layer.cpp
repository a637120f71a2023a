#include <vector>

#include "caffe/face_layers_config.hpp"
#include "caffe/filler.hpp"
#include "caffe/layer_factory.hpp"
#include "caffe/layers/face_parameter_layer.hpp"
#include "caffe/util/math_functions.hpp"
#ifdef CAFFE_FACE_STOCK_PARAMETER
#include "caffe/layers/parameter_layer.hpp"
#endif

namespace caffe {

template <typename Dtype>
void FaceParameterLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const ParameterParameter& param = this->layer_param_.parameter_param();
  if (this->blobs_.size() > 0) {
    LOG(INFO) << "Skipping parameter initialization";
  } else {
    this->blobs_.resize(1);
    this->blobs_[0].reset(new Blob<Dtype>());
    this->blobs_[0]->Reshape(param.shape());
    shared_ptr<Filler<Dtype> > filler(GetFiller<Dtype>(param.blob_filler()));
    filler->Fill(this->blobs_[0].get());
  }
  this->param_propagate_down_.resize(this->blobs_.size(), true);
}

template <typename Dtype>
void FaceParameterLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  top[0]->Reshape(this->layer_param_.parameter_param().shape());
  CHECK_EQ(this->blobs_[0]->count(), top[0]->count()) << "Layer " << this->layer_param_.name()
      << ": expected a blob of the shape " << top[0]->shape_string() << ", got " << this->blobs_[0]->shape_string();
}

template <typename Dtype>
void FaceParameterLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  top[0]->ShareData(*this->blobs_[0]);
}

template <typename Dtype>
void FaceParameterLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (this->param_propagate_down_[0]) {
    caffe_axpy(top[0]->count(), Dtype(1), top[0]->cpu_diff(), this->blobs_[0]->mutable_cpu_diff());
  }
}

#ifdef CPU_ONLY
STUB_GPU(FaceParameterLayer);
#endif

INSTANTIATE_CLASS(FaceParameterLayer);

template <typename Dtype>
shared_ptr<Layer<Dtype> > GetFaceParameterLayer(const LayerParameter& param) {
#ifdef CAFFE_FACE_STOCK_PARAMETER
  if (!param.parameter_param().has_blob_filler()) {
    return shared_ptr<Layer<Dtype> >(new ParameterLayer<Dtype>(param));
  }
#endif
  return shared_ptr<Layer<Dtype> >(new FaceParameterLayer<Dtype>(param));
}

REGISTER_LAYER_CREATOR(Parameter, GetFaceParameterLayer);

}  // namespace caffe
