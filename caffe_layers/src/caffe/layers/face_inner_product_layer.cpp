#include <string>
#include <vector>

#include "caffe/face_layers_config.hpp"
#include "caffe/filler.hpp"
#include "caffe/layer_factory.hpp"
#include "caffe/layers/face_inner_product_layer.hpp"
#include "caffe/layers/inner_product_layer.hpp"
#include "caffe/util/keep_ones.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
void FaceInnerProductLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const InnerProductParameter& param = this->layer_param_.inner_product_param();
  const string& name = this->layer_param_.name();
#ifdef CAFFE_FACE_HAS_TRANSPOSE
  transpose_ = param.transpose();
#else
  transpose_ = false;
#endif
  normalize_ = param.normalize();
  const int axis = bottom[0]->CanonicalAxisIndex(param.axis());
  K_ = bottom[0]->count(axis);
  if (bottom.size() > 1) {
    CHECK(!normalize_) << "Layer " << name << ": normalize is for a learned weight; put a Normalize layer before "
        << "bottom 1 to normalise that";
    CHECK_GE(bottom[1]->num_axes(), 2) << "Layer " << name << ": expected a weight of 2 axes as bottom 1, got "
        << bottom[1]->shape_string();
    N_ = bottom[1]->shape(transpose_ ? 1 : 0);
    CHECK(!param.has_num_output() || param.num_output() == N_) << "Layer " << name << ": num_output is "
        << param.num_output() << " but bottom 1, the weight, is " << bottom[1]->shape_string();
    CHECK(bottom.size() > 2 || !param.bias_term()) << "Layer " << name
        << ": with the weight as bottom 1 give the bias as bottom 2 or say bias_term: false";
    bias_term_ = false;
    return;
  }
  CHECK(!(transpose_ && normalize_)) << "Layer " << name << ": normalize does not go with transpose";
  N_ = param.num_output();
  CHECK_GT(N_, 0) << "Layer " << name << ": expected a num_output of 1 or more";
  bias_term_ = param.bias_term();
  if (this->blobs_.size() > 0) {
    LOG(INFO) << "Skipping parameter initialization";
  } else {
    this->blobs_.resize(bias_term_ ? 2 : 1);
    vector<int> weight_shape(2);
    weight_shape[0] = transpose_ ? K_ : N_;
    weight_shape[1] = transpose_ ? N_ : K_;
    this->blobs_[0].reset(new Blob<Dtype>(weight_shape));
    shared_ptr<Filler<Dtype> > weight_filler(GetFiller<Dtype>(param.weight_filler()));
    weight_filler->Fill(this->blobs_[0].get());
    if (bias_term_) {
      this->blobs_[1].reset(new Blob<Dtype>(vector<int>(1, N_)));
      shared_ptr<Filler<Dtype> > bias_filler(GetFiller<Dtype>(param.bias_filler()));
      bias_filler->Fill(this->blobs_[1].get());
    }
  }
  this->param_propagate_down_.resize(this->blobs_.size(), true);
}

template <typename Dtype>
void FaceInnerProductLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const string& name = this->layer_param_.name();
  const int axis = bottom[0]->CanonicalAxisIndex(this->layer_param_.inner_product_param().axis());
  CHECK_EQ(bottom[0]->count(axis), K_) << "Layer " << name << ": expected " << K_ << " numbers from axis " << axis
      << " of bottom 0 on, got " << bottom[0]->shape_string();
  M_ = bottom[0]->count(0, axis);
  if (bottom.size() > 1) {
    N_ = bottom[1]->shape(transpose_ ? 1 : 0);
    CHECK_EQ(bottom[1]->count(), N_ * K_) << "Layer " << name << ": expected a weight of " << N_ << " x " << K_
        << " numbers as bottom 1, got " << bottom[1]->shape_string();
  }
  if (bottom.size() > 2) {
    CHECK_EQ(bottom[2]->count(), N_) << "Layer " << name << ": expected a bias of " << N_
        << " numbers as bottom 2, got " << bottom[2]->shape_string();
  }
  vector<int> top_shape = bottom[0]->shape();
  top_shape.resize(axis + 1);
  top_shape[axis] = N_;
  top[0]->Reshape(top_shape);
  if (Bias(bottom)) {
    KeepOnes(M_, &bias_multiplier_);
  }
}

template <typename Dtype>
const Blob<Dtype>& FaceInnerProductLayer<Dtype>::Weight(const vector<Blob<Dtype>*>& bottom) const {
  if (bottom.size() > 1) {
    return *bottom[1];
  }
  return normalize_ ? unit_rows_.unit() : *this->blobs_[0];
}

template <typename Dtype>
const Blob<Dtype>* FaceInnerProductLayer<Dtype>::Bias(const vector<Blob<Dtype>*>& bottom) const {
  if (bottom.size() > 2) {
    return bottom[2];
  }
  return bias_term_ ? this->blobs_[1].get() : NULL;
}

template <typename Dtype>
Blob<Dtype>* FaceInnerProductLayer<Dtype>::GradientOf(int index, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) const {
  if (bottom.size() > 1) {
    return index + 1 < bottom.size() && propagate_down[index + 1] ? bottom[index + 1] : NULL;
  }
  return index < this->blobs_.size() && this->param_propagate_down_[index] ? this->blobs_[index].get() : NULL;
}

template <typename Dtype>
void FaceInnerProductLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  if (normalize_) {
    unit_rows_.Forward_cpu(this->phase_, this->layer_param_.inner_product_param().normalize_eps(),
        this->blobs_[0].get());
  }
  Dtype* y = top[0]->mutable_cpu_data();
  caffe_cpu_gemm<Dtype>(CblasNoTrans, transpose_ ? CblasNoTrans : CblasTrans, M_, N_, K_, Dtype(1),
      bottom[0]->cpu_data(), Weight(bottom).cpu_data(), Dtype(0), y);
  if (const Blob<Dtype>* bias = Bias(bottom)) {
    caffe_cpu_gemm<Dtype>(CblasNoTrans, CblasNoTrans, M_, N_, 1, Dtype(1), bias_multiplier_.cpu_data(),
        bias->cpu_data(), Dtype(1), y);
  }
}

template <typename Dtype>
void FaceInnerProductLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  const Dtype* g = top[0]->cpu_diff();
  const Dtype* x = bottom[0]->cpu_data();
  const Dtype keep = bottom.size() > 1 ? 0 : 1;  // blobs' gradients add up, bottoms' do not
  if (Blob<Dtype>* weight = GradientOf(0, propagate_down, bottom)) {
    if (transpose_) {
      caffe_cpu_gemm<Dtype>(CblasTrans, CblasNoTrans, K_, N_, M_, Dtype(1), x, g, keep, weight->mutable_cpu_diff());
    } else {
      caffe_cpu_gemm<Dtype>(CblasTrans, CblasNoTrans, N_, K_, M_, Dtype(1), g, x, keep, weight->mutable_cpu_diff());
    }
  }
  if (Blob<Dtype>* bias = GradientOf(1, propagate_down, bottom)) {
    caffe_cpu_gemv<Dtype>(CblasTrans, M_, N_, Dtype(1), g, bias_multiplier_.cpu_data(), keep,
        bias->mutable_cpu_diff());
  }
  if (propagate_down[0]) {
    caffe_cpu_gemm<Dtype>(CblasNoTrans, transpose_ ? CblasTrans : CblasNoTrans, M_, K_, N_, Dtype(1), g,
        Weight(bottom).cpu_data(), Dtype(0), bottom[0]->mutable_cpu_diff());
  }
}

#ifdef CPU_ONLY
STUB_GPU(FaceInnerProductLayer);
#endif

INSTANTIATE_CLASS(FaceInnerProductLayer);

template <typename Dtype>
shared_ptr<Layer<Dtype> > GetFaceInnerProductLayer(const LayerParameter& param) {
  if (param.inner_product_param().normalize() || param.bottom_size() > 1) {
    return shared_ptr<Layer<Dtype> >(new FaceInnerProductLayer<Dtype>(param));
  }
  return shared_ptr<Layer<Dtype> >(new InnerProductLayer<Dtype>(param));
}

REGISTER_LAYER_CREATOR(InnerProduct, GetFaceInnerProductLayer);

}  // namespace caffe
