#include <cmath>
#include <string>
#include <vector>

#include "caffe/face_layers_config.hpp"
#include "caffe/layer_factory.hpp"
#include "caffe/layers/face_normalize_layer.hpp"
#include "caffe/util/math_functions.hpp"
#ifdef CAFFE_FACE_STOCK_NORMALIZE
#include "caffe/layers/normalize_layer.hpp"
#endif

namespace caffe {

template <typename Dtype>
void FaceNormalizeLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const string& name = this->layer_param_.name();
  const string& type = this->layer_param_.normalize_param().normalize_type();
  CHECK(type == "L2" || type == "L1") << "Layer " << name << ": expected normalize_type \"L2\" or \"L1\", got \""
      << type << "\"";
  l1_ = type == "L1";
  fix_gradient_ = this->layer_param_.normalize_param().fix_gradient();
  bp_norm_ = this->layer_param_.normalize_param().bp_norm();
  eps_ = this->layer_param_.normalize_param().eps();
  CHECK_GT(eps_, 0) << "Layer " << name << ": expected an eps above 0, which zero vectors need";
}

template <typename Dtype>
void FaceNormalizeLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const int axes = bottom[0]->num_axes();
  CHECK(axes >= 2 && axes <= 4) << "Layer " << this->layer_param_.name()
      << ": expected a bottom of 2 to 4 axes, got " << bottom[0]->shape_string();
  num_ = bottom[0]->shape(0);
  channels_ = bottom[0]->shape(1);
  spatial_ = bottom[0]->count(2);
  vector<int> shape = bottom[0]->shape();
  shape.resize(4, 1);
  if (top[0] != bottom[0]) {
    top[0]->Reshape(shape);
  }
  shape[1] = 1;
  norm_.Reshape(shape);
  if (top.size() > 1) {
    CHECK(top[1] != bottom[0]) << "Layer " << this->layer_param_.name() << ": the norm can't be put into the bottom";
    top[1]->Reshape(shape);
  }
}

template <typename Dtype>
void FaceNormalizeLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const Dtype* x = bottom[0]->cpu_data();
  Dtype* y = top[0]->mutable_cpu_data();
  Dtype* norms = norm_.mutable_cpu_data();
  for (int n = 0; n < num_; ++n) {
    Dtype* norm = norms + n * spatial_;
    if (spatial_ == 1) {  // a row in one piece
      norm[0] = l1_ ? caffe_cpu_asum(channels_, x) + eps_ : std::sqrt(caffe_cpu_dot(channels_, x, x) + eps_);
      const Dtype rate = Dtype(1) / norm[0];
      for (int c = 0; c < channels_; ++c) {  // one pass, where BLAS copies first
        y[c] = x[c] * rate;
      }
    } else {  // along the positions, which lie side by side
      caffe_set(spatial_, eps_, norm);
      for (int c = 0; c < channels_; ++c) {
        const Dtype* plane = x + c * spatial_;
        for (int s = 0; s < spatial_; ++s) {
          norm[s] += l1_ ? std::abs(plane[s]) : plane[s] * plane[s];
        }
      }
      if (!l1_) {
        for (int s = 0; s < spatial_; ++s) {
          norm[s] = std::sqrt(norm[s]);
        }
      }
      for (int c = 0; c < channels_; ++c) {
        caffe_div(spatial_, x + c * spatial_, norm, y + c * spatial_);
      }
    }
    x += channels_ * spatial_;
    y += channels_ * spatial_;
  }
  if (top.size() > 1) {
    caffe_copy(norm_.count(), norm_.cpu_data(), top[1]->mutable_cpu_data());
  }
}

namespace {

/// The derivative of the norm by x, from y.
template <typename Dtype>
inline Dtype Slope(bool l1, Dtype y) {
  return l1 ? Dtype((y > 0) - (y < 0)) : y;
}

template <typename Dtype>
void Combine(int size, bool l1, Dtype rate, const Dtype* g, Dtype along, const Dtype* y, Dtype* dx) {
  if (l1) {
    for (int i = 0; i < size; ++i) {
      dx[i] = rate * g[i] + along * Slope(true, y[i]);
    }
  } else {
    for (int i = 0; i < size; ++i) {
      dx[i] = rate * g[i] + along * y[i];
    }
  }
}

}  // namespace

template <typename Dtype>
void FaceNormalizeLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (!propagate_down[0]) {
    return;
  }
  const Dtype* g = top[0]->cpu_diff();
  const Dtype* y = top[0]->cpu_data();
  const Dtype* norms = norm_.cpu_data();
  const Dtype* norm_diff = NormCounts(top) ? top[1]->cpu_diff() : NULL;
  Dtype* dx = bottom[0]->mutable_cpu_diff();
  // dx = rate * g + along * (y, or for L1 its sign)
  vector<Dtype> along(spatial_);
  vector<Dtype> rate(spatial_);
  for (int n = 0; n < num_; ++n) {
    for (int s = 0; s < spatial_; ++s) {
      along[s] = 0;
      rate[s] = fix_gradient_ ? Dtype(1) : Dtype(1) / norms[n * spatial_ + s];
    }
    if (spatial_ == 1) {
      along[0] = caffe_cpu_dot(channels_, g, y);
    } else {
      for (int c = 0; c < channels_; ++c) {
        for (int s = 0; s < spatial_; ++s) {
          along[s] += g[c * spatial_ + s] * y[c * spatial_ + s];
        }
      }
    }
    for (int s = 0; s < spatial_; ++s) {
      along[s] = (norm_diff ? norm_diff[n * spatial_ + s] : Dtype(0)) - along[s] * rate[s];
    }
    if (spatial_ == 1) {
      Combine(channels_, l1_, rate[0], g, along[0], y, dx);
    } else {
      for (int c = 0; c < channels_; ++c) {
        for (int s = 0; s < spatial_; ++s) {
          const int i = c * spatial_ + s;
          dx[i] = g[i] * rate[s] + along[s] * Slope(l1_, y[i]);
        }
      }
    }
    g += channels_ * spatial_;
    y += channels_ * spatial_;
    dx += channels_ * spatial_;
  }
}

#ifdef CPU_ONLY
STUB_GPU(FaceNormalizeLayer);
#endif

INSTANTIATE_CLASS(FaceNormalizeLayer);

template <typename Dtype>
shared_ptr<Layer<Dtype> > GetFaceNormalizeLayer(const LayerParameter& param) {
#ifdef CAFFE_FACE_STOCK_NORMALIZE
  if (param.has_norm_param() || (!param.has_normalize_param() && param.blobs_size() > 0)) {
    CHECK(!param.has_normalize_param()) << "Layer " << param.name()
        << ": expected norm_param (SSD) or normalize_param (NormFace), got both";
    return shared_ptr<Layer<Dtype> >(new NormalizeLayer<Dtype>(param));
  }
#endif
  return shared_ptr<Layer<Dtype> >(new FaceNormalizeLayer<Dtype>(param));
}

REGISTER_LAYER_CREATOR(Normalize, GetFaceNormalizeLayer);

}  // namespace caffe
