#include <algorithm>
#include <string>
#include <vector>

#include "caffe/filler.hpp"
#include "caffe/layers/base_margin_inner_product_layer.hpp"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/margin_psi.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
void BaseMarginInnerProductLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  const string& name = this->layer_param_.name();
  CHECK_GT(N_, 0) << "Layer " << name << ": expected a num_output of 1 or more";
  CHECK_GE(lambda_min_, 0) << "Layer " << name << ": expected a lambda_min of 0 or more";
  axis_ = bottom[0]->CanonicalAxisIndex(axis_);
  K_ = bottom[0]->count(axis_);
  if (this->blobs_.size() > 0) {
    LOG(INFO) << "Skipping parameter initialization";
  } else {
    this->blobs_.resize(1);
    vector<int> weight_shape(2);
    weight_shape[0] = N_;
    weight_shape[1] = K_;
    this->blobs_[0].reset(new Blob<Dtype>(weight_shape));
    shared_ptr<Filler<Dtype> > filler(GetFiller<Dtype>(weight_filler_));
    filler->Fill(this->blobs_[0].get());
  }
  this->param_propagate_down_.resize(this->blobs_.size(), true);
}

template <typename Dtype>
void BaseMarginInnerProductLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  const string& name = this->layer_param_.name();
  CHECK_EQ(bottom[0]->count(axis_), K_) << "Layer " << name << ": expected " << K_ << " numbers from axis " << axis_
      << " of bottom 0 on, got " << bottom[0]->shape_string();
  M_ = bottom[0]->count(0, axis_);
  CHECK_EQ(bottom[1]->count(), M_) << "Layer " << name << ": expected " << M_ << " labels as bottom 1, got "
      << bottom[1]->shape_string();
  vector<int> top_shape = bottom[0]->shape();
  top_shape.resize(axis_ + 1);
  top_shape[axis_] = N_;
  top[0]->Reshape(top_shape);
  if (top.size() > 1) {
    top[1]->Reshape(vector<int>(1, 1));
  }
  vector<int> margins_shape(2);
  margins_shape[0] = 3;
  margins_shape[1] = M_;
  margins_.Reshape(margins_shape);
}

template <typename Dtype>
Dtype BaseMarginInnerProductLayer<Dtype>::NextLambda(const vector<Blob<Dtype>*>& top) {
  if (this->phase_ == TRAIN) {
    ++iteration_;
  }
  const Dtype lambda = std::max(lambda_min_, Annealed(base_, gamma_, power_, iteration_));
  if (top.size() > 1) {
    top[1]->mutable_cpu_data()[0] = lambda;
  }
  return lambda;
}

template <typename Dtype>
void BaseMarginInnerProductLayer<Dtype>::RefuseLabelGradient(const vector<bool>& propagate_down) const {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
}

template <typename Dtype>
void BaseMarginInnerProductLayer<Dtype>::MarginForward_cpu(const Blob<Dtype>& weight,
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  CheckLabels(this->layer_param_.name(), *bottom[1], N_);
  const Dtype lambda = NextLambda(top);
  const Dtype* x = bottom[0]->cpu_data();
  const Dtype* w = weight.cpu_data();
  Dtype* y = top[0]->mutable_cpu_data();
  caffe_cpu_gemm<Dtype>(CblasNoTrans, CblasTrans, M_, N_, K_, Dtype(1), x, w, Dtype(0), y);
  if (m_ == 1) {
    return;
  }
  const Dtype* label = bottom[1]->cpu_data();
  Dtype* margins = margins_.mutable_cpu_data();
  for (int i = 0; i < M_; ++i) {
    if (label[i] < 0) {
      margins[i] = margins[M_ + i] = margins[2 * M_ + i] = 0;
      continue;
    }
    const size_t j = static_cast<size_t>(label[i]);
    const Dtype* x_row = x + static_cast<size_t>(i) * K_;
    const Dtype* w_row = w + j * K_;
    Dtype* score = y + static_cast<size_t>(i) * N_ + j;
    const LabelMargin<Dtype> made = MarginAtLabel(m_, lambda, exact_gradient_, *score,
        caffe_cpu_dot(K_, x_row, x_row), caffe_cpu_dot(K_, w_row, w_row));
    *score = made.score;
    margins[i] = made.across;
    margins[M_ + i] = made.along_x;
    margins[2 * M_ + i] = made.along_w;
  }
}

template <typename Dtype>
void BaseMarginInnerProductLayer<Dtype>::MarginBackward_cpu(const Blob<Dtype>& weight,
    const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom,
    Dtype keep, Dtype* dw) {
  RefuseLabelGradient(propagate_down);
  const Dtype* g = top[0]->cpu_diff();
  const Dtype* x = bottom[0]->cpu_data();
  const Dtype* w = weight.cpu_data();
  const Dtype* label = bottom[1]->cpu_data();
  const Dtype* margins = margins_.cpu_data();
  if (dw) {
    caffe_cpu_gemm<Dtype>(CblasTrans, CblasNoTrans, N_, K_, M_, Dtype(1), g, x, keep, dw);
    for (int i = 0; i < M_ && m_ > 1 && exact_gradient_; ++i) {
      if (label[i] < 0) {
        continue;
      }
      const size_t j = static_cast<size_t>(label[i]);
      const Dtype slope = g[static_cast<size_t>(i) * N_ + j];
      caffe_axpy(K_, slope * margins[i], x + static_cast<size_t>(i) * K_, dw + j * K_);
      caffe_axpy(K_, slope * margins[2 * M_ + i], w + j * K_, dw + j * K_);
    }
  }
  if (propagate_down[0]) {
    Dtype* dx = bottom[0]->mutable_cpu_diff();
    caffe_cpu_gemm<Dtype>(CblasNoTrans, CblasNoTrans, M_, K_, N_, Dtype(1), g, w, Dtype(0), dx);
    for (int i = 0; i < M_ && m_ > 1; ++i) {
      if (label[i] < 0) {
        continue;
      }
      const size_t j = static_cast<size_t>(label[i]);
      const Dtype slope = g[static_cast<size_t>(i) * N_ + j];
      caffe_axpy(K_, slope * margins[i], w + j * K_, dx + static_cast<size_t>(i) * K_);
      caffe_axpy(K_, slope * margins[M_ + i], x + static_cast<size_t>(i) * K_, dx + static_cast<size_t>(i) * K_);
    }
  }
}

#ifdef CPU_ONLY
template <typename Dtype>
void BaseMarginInnerProductLayer<Dtype>::MarginForward_gpu(const Blob<Dtype>& weight,
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  NO_GPU;
}

template <typename Dtype>
void BaseMarginInnerProductLayer<Dtype>::MarginBackward_gpu(const Blob<Dtype>& weight,
    const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom,
    Dtype keep, Dtype* dw) {
  NO_GPU;
}
#endif

INSTANTIATE_CLASS(BaseMarginInnerProductLayer);

}  // namespace caffe
