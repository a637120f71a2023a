#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "caffe/layers/range_loss_layer.hpp"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
static Dtype SquaredRange(int size, const Dtype* a, const Dtype* b) {
  Dtype sum = 0;
  for (int k = 0; k < size; ++k) {
    sum += (a[k] - b[k]) * (a[k] - b[k]);
  }
  return sum;
}

template <typename Dtype>
void RangeLossLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  LossLayer<Dtype>::LayerSetUp(bottom, top);
  CHECK_GE(this->layer_param_.range_loss_param().choose_k(), 1) << "Layer " << this->layer_param_.name()
      << ": expected a choose_k of 1 or more";
}

template <typename Dtype>
void RangeLossLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const string& name = this->layer_param_.name();
  CHECK_GE(bottom[0]->num_axes(), 1) << "Layer " << name << ": expected features (N, ...)";
  N_ = bottom[0]->shape(0);
  K_ = bottom[0]->count(1);
  CHECK_EQ(bottom[1]->count(), N_) << "Layer " << name << ": expected " << N_ << " labels as bottom 1, got "
      << bottom[1]->shape_string();
  top[0]->Reshape(vector<int>());
}

template <typename Dtype>
void RangeLossLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const RangeLossParameter& param = this->layer_param_.range_loss_param();
  const Dtype* f = bottom[0]->cpu_data();
  const Dtype* label = bottom[1]->cpu_data();
  Dtype broken = 0;  // or NaN, where a feature is: comparisons pass over it
  samples_.clear();
  for (int i = 0; i < N_; ++i) {
    const int y = ClassOf(label[i]);
    if (y >= 0) {
      samples_[y].push_back(i);
      const Dtype square = caffe_cpu_dot(K_, f + i * K_, f + i * K_);
      broken = square != square ? square : broken;
    }
  }
  const int classes = samples_.size();
  vector<int> centers_shape(2, K_);
  centers_shape[0] = std::max(classes, 1);
  centers_.Reshape(centers_shape);
  Dtype* centers = centers_.mutable_cpu_data();
  caffe_set(centers_.count(), Dtype(0), centers);
  ranges_.assign(classes, vector<Pair>());
  inverse_sums_.assign(classes, Dtype(0));
  double within = 0;
  int c = 0;
  for (typename std::map<int, vector<int> >::const_iterator of = samples_.begin(); of != samples_.end(); ++of, ++c) {
    const vector<int>& samples = of->second;
    vector<Pair>* pairs = &ranges_[c];
    for (int i = 0; i < samples.size(); ++i) {
      caffe_axpy(K_, Dtype(1) / samples.size(), f + samples[i] * K_, centers + c * K_);
      for (int j = i + 1; j < samples.size() && broken == broken; ++j) {
        const Pair pair = {SquaredRange(K_, f + samples[i] * K_, f + samples[j] * K_), samples[i], samples[j]};
        pairs->push_back(pair);
      }
    }
    std::sort(pairs->begin(), pairs->end());
    if (pairs->size() > param.choose_k()) {
      pairs->resize(param.choose_k());
    }
    if (pairs->empty()) {
      continue;
    }
    if (pairs->back().distance == 0) {
      pairs->clear();  // the harmonic mean is 0
      continue;
    }
    for (int k = 0; k < pairs->size(); ++k) {
      inverse_sums_[c] += 1 / (*pairs)[k].distance;
    }
    within += pairs->size() / inverse_sums_[c];
  }
  Dtype smallest = 0;
  nearest_[0] = nearest_[1] = -1;
  for (int i = 0; i < classes; ++i) {
    for (int j = i + 1; j < classes; ++j) {
      const Dtype distance = SquaredRange(K_, centers + i * K_, centers + j * K_);
      if (nearest_[0] < 0 || distance < smallest) {
        smallest = distance;
        nearest_[0] = i;
        nearest_[1] = j;
      }
    }
  }
  double between = 0;
  if (nearest_[0] >= 0 && smallest < param.margin()) {
    between = param.margin() - smallest;
  } else {
    nearest_[0] = nearest_[1] = -1;
  }
  top[0]->mutable_cpu_data()[0] = param.intra_weight() * within + param.inter_weight() * between + broken;
}

template <typename Dtype>
void RangeLossLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  if (!propagate_down[0]) {
    return;
  }
  const RangeLossParameter& param = this->layer_param_.range_loss_param();
  const Dtype weight = top[0]->cpu_diff()[0];
  const Dtype* f = bottom[0]->cpu_data();
  Dtype* df = bottom[0]->mutable_cpu_diff();
  caffe_set(N_ * K_, Dtype(0), df);
  for (int c = 0; c < ranges_.size(); ++c) {
    for (int k = 0; k < ranges_[c].size(); ++k) {
      const Pair& pair = ranges_[c][k];
      const Dtype product = pair.distance * inverse_sums_[c];
      const Dtype rate = weight * param.intra_weight() * 2 * ranges_[c].size() / (product * product);
      caffe_axpy(K_, rate, f + pair.first * K_, df + pair.first * K_);
      caffe_axpy(K_, -rate, f + pair.second * K_, df + pair.first * K_);
      caffe_axpy(K_, rate, f + pair.second * K_, df + pair.second * K_);
      caffe_axpy(K_, -rate, f + pair.first * K_, df + pair.second * K_);
    }
  }
  int c = 0;
  for (typename std::map<int, vector<int> >::const_iterator of = samples_.begin(); of != samples_.end(); ++of, ++c) {
    if (c != nearest_[0] && c != nearest_[1]) {
      continue;
    }
    const int other = c == nearest_[0] ? nearest_[1] : nearest_[0];
    const Dtype rate = weight * param.inter_weight() * 2 / of->second.size();
    for (int i = 0; i < of->second.size(); ++i) {
      caffe_axpy(K_, -rate, centers_.cpu_data() + c * K_, df + of->second[i] * K_);
      caffe_axpy(K_, rate, centers_.cpu_data() + other * K_, df + of->second[i] * K_);
    }
  }
}

#ifdef CPU_ONLY
STUB_GPU(RangeLossLayer);
#endif

INSTANTIATE_CLASS(RangeLossLayer);
REGISTER_LAYER_CLASS(RangeLoss);

}  // namespace caffe
