#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "caffe/filler.hpp"
#include "caffe/layers/inner_distance_layer.hpp"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/distance_math.hpp"
#include "caffe/util/keep_ones.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
void InnerDistanceLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const InnerDistanceParameter& param = this->layer_param_.inner_distance_param();
  const string& name = this->layer_param_.name();
  const string& type = param.distance_type();
  CHECK(type == "L2" || type == "L1") << "Layer " << name << ": expected distance_type \"L2\" or \"L1\", got \""
      << type << "\"";
  l1_ = type == "L1";
  normalize_ = param.normalize();
  const int bottoms = bottom.size();
  if (param.update_center_only()) {
    CHECK_GE(bottoms, 2) << "Layer " << name << ": update_center_only takes the labels as the last bottom: expected "
        << "(x, labels) or (x, W, labels), got one bottom";
    label_bottom_ = bottoms - 1;
  } else {
    CHECK_LE(bottoms, 2) << "Layer " << name << ": labels as bottom 2 are for update_center_only";
  }
  weight_is_bottom_ = bottoms - (label_bottom_ < 0 ? 0 : 1) > 1;
  exact_gradient_ = param.exact_gradient();
  K_ = bottom[0]->count(bottom[0]->CanonicalAxisIndex(param.axis()));
  if (weight_is_bottom_) {
    CHECK(!normalize_) << "Layer " << name << ": normalize is for a learned weight; put a Normalize layer before "
        << "bottom 1 to normalise that";
    CHECK_GE(bottom[1]->num_axes(), 1) << "Layer " << name << ": expected a weight (C, K) as bottom 1";
    CHECK(!param.has_num_output() || param.num_output() == bottom[1]->shape(0)) << "Layer " << name
        << ": num_output is " << param.num_output() << " but bottom 1, the weight, is " << bottom[1]->shape_string();
    return;
  }
  N_ = param.num_output();
  CHECK_GT(N_, 0) << "Layer " << name << ": expected a num_output of 1 or more";
  if (this->blobs_.size() > 0) {
    LOG(INFO) << "Skipping parameter initialization";
  } else {
    this->blobs_.resize(1);
    vector<int> weight_shape(2);
    weight_shape[0] = N_;
    weight_shape[1] = K_;
    this->blobs_[0].reset(new Blob<Dtype>(weight_shape));
    shared_ptr<Filler<Dtype> > filler(GetFiller<Dtype>(param.weight_filler()));
    filler->Fill(this->blobs_[0].get());
  }
  this->param_propagate_down_.resize(this->blobs_.size(), true);
}

template <typename Dtype>
void InnerDistanceLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const string& name = this->layer_param_.name();
  const int axis = bottom[0]->CanonicalAxisIndex(this->layer_param_.inner_distance_param().axis());
  CHECK_EQ(bottom[0]->count(axis), K_) << "Layer " << name << ": expected " << K_ << " numbers from axis " << axis
      << " of bottom 0 on, got " << bottom[0]->shape_string();
  M_ = bottom[0]->count(0, axis);
  if (label_bottom_ >= 0) {
    CHECK_EQ(bottom[label_bottom_]->count(), M_) << "Layer " << name << ": expected " << M_ << " labels as bottom "
        << label_bottom_ << ", got " << bottom[label_bottom_]->shape_string();
  }
  if (weight_is_bottom_) {
    N_ = bottom[1]->shape(0);
    CHECK_EQ(bottom[1]->count(), N_ * K_) << "Layer " << name << ": expected a weight of " << N_ << " x " << K_
        << " numbers as bottom 1, got " << bottom[1]->shape_string();
  }
  vector<int> top_shape = bottom[0]->shape();
  top_shape.resize(axis + 1);
  top_shape[axis] = N_;
  top[0]->Reshape(top_shape);
  if (!l1_) {
    x_squares_.Reshape(vector<int>(1, M_));
    w_squares_.Reshape(vector<int>(1, N_));
    KeepOnes(std::max(M_, N_), &ones_);
  }
}

template <typename Dtype>
const Blob<Dtype>& InnerDistanceLayer<Dtype>::Weight(const vector<Blob<Dtype>*>& bottom) const {
  if (weight_is_bottom_) {
    return *bottom[1];
  }
  return normalize_ ? unit_rows_.unit() : *this->blobs_[0];
}

template <typename Dtype>
Blob<Dtype>* InnerDistanceLayer<Dtype>::WeightGradient(const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) const {
  if (weight_is_bottom_) {
    return propagate_down[1] ? bottom[1] : NULL;
  }
  return this->param_propagate_down_[0] ? this->blobs_[0].get() : NULL;
}

template <typename Dtype>
void InnerDistanceLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  if (label_bottom_ >= 0) {
    CheckLabels(this->layer_param_.name(), *bottom[label_bottom_], N_);
  }
  if (normalize_) {
    unit_rows_.Forward_cpu(this->phase_, this->layer_param_.inner_distance_param().normalize_eps(),
        this->blobs_[0].get());
  }
  const Dtype* x = bottom[0]->cpu_data();
  const Dtype* w = Weight(bottom).cpu_data();
  Dtype* d = top[0]->mutable_cpu_data();
  if (l1_) {
    for (int i = 0; i < M_; ++i) {
      for (int j = 0; j < N_; ++j) {
        Dtype sum = 0;
        for (int k = 0; k < K_; ++k) {
          sum += std::abs(x[i * K_ + k] - w[j * K_ + k]);
        }
        d[i * N_ + j] = sum;
      }
    }
    return;
  }
  Dtype* w_squares = w_squares_.mutable_cpu_data();
  for (int j = 0; j < N_; ++j) {
    w_squares[j] = caffe_cpu_dot(K_, w + j * K_, w + j * K_);
  }
  caffe_cpu_gemm<Dtype>(CblasNoTrans, CblasTrans, M_, N_, K_, Dtype(-2), x, w, Dtype(0), d);
  for (int i = 0; i < M_; ++i) {
    const Dtype x_square = caffe_cpu_dot(K_, x + i * K_, x + i * K_);
    for (int j = 0; j < N_; ++j) {
      d[i * N_ + j] = SquaredDistance(K_, x + i * K_, w + j * K_, x_square + w_squares[j], d[i * N_ + j]);
    }
  }
}

template <typename Dtype>
void InnerDistanceLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (label_bottom_ >= 0 && propagate_down[label_bottom_]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  const Dtype* g = top[0]->cpu_diff();
  const Dtype* x = bottom[0]->cpu_data();
  const Dtype* w = Weight(bottom).cpu_data();
  if (Blob<Dtype>* weight = WeightGradient(propagate_down, bottom)) {
    Dtype* dw = weight->mutable_cpu_diff();
    const Dtype keep = weight_is_bottom_ ? 0 : 1;  // a blob's gradients add up, a bottom's do not
    if (keep == 0 && (l1_ || label_bottom_ >= 0)) {
      caffe_set(N_ * K_, Dtype(0), dw);
    }
    if (label_bottom_ >= 0) {
      const Dtype* label = bottom[label_bottom_]->cpu_data();
      for (int i = 0; i < M_; ++i) {
        const int j = ClassOf(label[i]);
        for (int k = 0; k < K_ && j >= 0; ++k) {
          dw[j * K_ + k] += DistanceGradient(l1_, exact_gradient_, g[i * N_ + j], w[j * K_ + k], x[i * K_ + k]);
        }
      }
    } else if (l1_) {
      for (int j = 0; j < N_; ++j) {
        for (int i = 0; i < M_; ++i) {
          for (int k = 0; k < K_; ++k) {
            dw[j * K_ + k] += AbsoluteGradient(exact_gradient_, g[i * N_ + j], w[j * K_ + k], x[i * K_ + k]);
          }
        }
      }
    } else {
      caffe_cpu_gemm<Dtype>(CblasTrans, CblasNoTrans, N_, K_, M_, Dtype(-2), g, x, keep, dw);
      Dtype* sums = w_squares_.mutable_cpu_diff();
      caffe_cpu_gemv<Dtype>(CblasTrans, M_, N_, Dtype(2), g, ones_.cpu_data(), Dtype(0), sums);
      for (int j = 0; j < N_; ++j) {
        caffe_axpy(K_, sums[j], w + j * K_, dw + j * K_);
      }
    }
  }
  if (!propagate_down[0]) {
    return;
  }
  Dtype* dx = bottom[0]->mutable_cpu_diff();
  if (l1_) {
    caffe_set(bottom[0]->count(), Dtype(0), dx);
    for (int i = 0; i < M_; ++i) {
      for (int j = 0; j < N_; ++j) {
        for (int k = 0; k < K_; ++k) {
          dx[i * K_ + k] += AbsoluteGradient(exact_gradient_, g[i * N_ + j], x[i * K_ + k], w[j * K_ + k]);
        }
      }
    }
  } else {
    caffe_cpu_gemm<Dtype>(CblasNoTrans, CblasNoTrans, M_, K_, N_, Dtype(-2), g, w, Dtype(0), dx);
    Dtype* sums = x_squares_.mutable_cpu_diff();
    caffe_cpu_gemv<Dtype>(CblasNoTrans, M_, N_, Dtype(2), g, ones_.cpu_data(), Dtype(0), sums);
    for (int i = 0; i < M_; ++i) {
      caffe_axpy(K_, sums[i], x + i * K_, dx + i * K_);
    }
  }
}

#ifdef CPU_ONLY
STUB_GPU(InnerDistanceLayer);
#endif

INSTANTIATE_CLASS(InnerDistanceLayer);
REGISTER_LAYER_CLASS(InnerDistance);

}  // namespace caffe
