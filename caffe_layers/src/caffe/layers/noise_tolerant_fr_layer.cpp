#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "caffe/layers/noise_tolerant_fr_layer.hpp"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
void NoiseTolerantFRLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const NoiseTolerantFRParameter& param = this->layer_param_.noise_tolerant_fr_param();
  const string& name = this->layer_param_.name();
  bins_ = param.bins();
  slide_ = param.slide_batch_num();
  low_ = param.value_low();
  high_ = param.value_high();
  CHECK_GE(param.start_iter(), 1) << "Layer " << name << ": expected a start_iter of 1 or more";
  CHECK_GE(bins_, 1) << "Layer " << name << ": expected 1 or more bins";
  CHECK_GE(slide_, 1) << "Layer " << name << ": expected a slide_batch_num of 1 or more";
  CHECK_GT(high_, low_) << "Layer " << name << ": expected a value_high above value_low";
  start_ = std::max(param.start_iter(), param.slide_batch_num());
  counts_.assign(bins_ + 1, 0);
}

template <typename Dtype>
void NoiseTolerantFRLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const string& name = this->layer_param_.name();
  CHECK_GE(bottom[0]->num_axes(), 1) << "Layer " << name << ": expected scores (N, ...) as bottom 0";
  N_ = bottom[0]->shape(0);
  K_ = bottom[0]->count(1);
  CHECK(bottom[1]->num_axes() >= 2 && bottom[1]->shape(0) == N_) << "Layer " << name << ": expected cosines (" << N_
      << ", C) as bottom 1, got " << bottom[1]->shape_string();
  C_ = bottom[1]->count(1);
  CHECK_EQ(bottom[2]->count(), N_) << "Layer " << name << ": expected " << N_ << " labels as bottom 2, got "
      << bottom[2]->shape_string();
  top[0]->ReshapeLike(*bottom[0]);
  vector<int> weights_shape(2, N_);
  weights_shape[0] = 2;
  weights_.Reshape(weights_shape);
  cosines_.Reshape(vector<int>(1, N_));
}

template <typename Dtype>
int NoiseTolerantFRLayer<Dtype>::BinOf(Dtype cosine) const {
  const double place = bins_ * (cosine - low_) / (high_ - low_);
  return place > 0 ? (place < bins_ ? static_cast<int>(place) : bins_) : 0;  // NaN in bin 0
}

/// A bin nearer to where the new distribution has it, or there at once where there was none before.
static int Nearer(int from, int to) { return from < 0 || from == to ? to : from + (to > from ? 1 : -1); }

template <typename Dtype>
bool NoiseTolerantFRLayer<Dtype>::MoveEnds(const vector<double>& smooth, const vector<double>& below) {
  const double tail = 0.5 * (1.0 - 0.99);
  int left = 0, right = bins_;
  while (left <= bins_ && below[left] < tail) {
    ++left;
  }
  while (right >= 0 && below[right] > 1 - tail) {
    --right;
  }
  if (left >= right) {
    return false;
  }
  const int middle = (left + right) / 2;
  const int highest = std::max_element(smooth.begin(), smooth.end()) - smooth.begin();
  // Peaks: as high as the bins beside them, and above those further off by more and more.
  int first = -1, last = -1;
  for (int i = std::max(left, 5); i <= std::min(right, bins_ - 5); ++i) {
    bool peak = smooth[i] >= smooth[i - 1] && smooth[i] >= smooth[i + 1];
    for (int apart = 2; apart <= 5; ++apart) {
      const int higher = apart - 2;  // as one number, so that equal heights round as in the published layer
      peak = peak && smooth[i] > smooth[i - apart] + higher && smooth[i] > smooth[i + apart] + higher;
    }
    if (peak) {
      first = first < 0 ? i : first;
      last = i;
      i += 5;
    }
  }
  first = first < 0 ? highest : first;
  last = last < 0 ? highest : last;
  left_ = Nearer(left_, left);
  right_ = Nearer(right_, right);
  left_peak_ = Nearer(left_peak_, highest < middle ? highest : std::min(first, middle));
  right_peak_ = Nearer(right_peak_, highest < middle ? std::max(last, middle) : highest);
  return true;
}

template <typename Dtype>
double NoiseTolerantFRLayer<Dtype>::WeightOf(int bin) const {
  const double reach = 10.0 * (bin - left_peak_) / std::max(right_ - left_peak_, 1);
  const double simple = std::min(std::log(1 + std::exp(std::min(reach, 100.))) / std::log(1 + std::exp(10.)), 1.);
  double hard = 1;
  if (bin != right_peak_) {
    const double side = (bin > right_peak_ ? right_ - right_peak_ : right_peak_ - left_) / 2.576;
    const double apart = bin - right_peak_;
    hard = side == 0 ? 0 : std::exp(-apart * apart / (2 * side * side));
  }
  const double end = std::min(std::max(low_ + (high_ - low_) * right_ / bins_, 0.), 1.);
  const double share = 2 - 1 / (1 + std::exp(5 - 20 * end)) - 1 / (1 + std::exp(20 * end - 15));
  return (end < 0.5 ? share : 0) + (1 - share) * simple + (end > 0.5 ? share * hard : 0);
}

template <typename Dtype>
void NoiseTolerantFRLayer<Dtype>::NextWeights(const Dtype* label, const Dtype* cosines) {
  for (int i = 0; i < N_; ++i) {
    window_.push_back(label[i] < 0 ? -1 : BinOf(cosines[i]));
    if (window_.back() >= 0) {
      ++counts_[window_.back()];
    }
  }
  while (window_.size() > static_cast<size_t>(slide_) * N_) {
    if (window_.front() >= 0) {
      --counts_[window_.front()];
    }
    window_.pop_front();
  }
  Dtype* weights = weights_.mutable_cpu_data();
  caffe_set(2 * N_, Dtype(1), weights);
  ++pass_;
  if (pass_ < start_) {
    return;
  }
  vector<double> smooth(bins_ + 1, 0.), below(bins_ + 1, 0.);
  double sum = 0;
  for (int i = 2; i <= bins_ - 2; ++i) {
    for (int j = i - 2; j <= i + 2; ++j) {
      smooth[i] += counts_[j] / 5.0;
    }
    sum += smooth[i];
  }
  for (int i = 0; i <= bins_ && sum > 0; ++i) {
    below[i] = (i > 0 ? below[i - 1] : 0) + smooth[i] / sum;
  }
  const bool weighs = sum > 0 && MoveEnds(smooth, below);
  const bool shielded = this->layer_param_.noise_tolerant_fr_param().shield_forward();
  for (int i = 0; i < N_; ++i) {
    if (label[i] >= 0) {
      weights[N_ + i] = weighs ? WeightOf(BinOf(cosines[i])) : 0;
      weights[i] = weighs && !shielded ? weights[N_ + i] : Dtype(1);
    }
  }
}

template <typename Dtype>
void NoiseTolerantFRLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const Dtype* x = bottom[0]->cpu_data();
  Dtype* y = top[0]->mutable_cpu_data();
  if (x != y) {
    caffe_copy(top[0]->count(), x, y);
  }
  if (this->phase_ != TRAIN) {
    return;
  }
  CheckLabels(this->layer_param_.name(), *bottom[2], C_);
  const Dtype* label = bottom[2]->cpu_data();
  for (int i = 0; i < N_; ++i) {
    const int own = ClassOf(label[i]);
    cosines_.mutable_cpu_data()[i] = own < 0 ? Dtype(0) : bottom[1]->cpu_data()[static_cast<size_t>(i) * C_ + own];
  }
  NextWeights(label, cosines_.cpu_data());
  for (int i = 0; i < N_; ++i) {
    caffe_scal(K_, weights_.cpu_data()[i], y + static_cast<size_t>(i) * K_);
  }
}

template <typename Dtype>
void NoiseTolerantFRLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  for (int k = 1; k < bottom.size(); ++k) {
    if (propagate_down[k]) {
      CHECK_EQ(k, 1) << this->type() << " Layer cannot backpropagate to label inputs.";
      caffe_set(bottom[1]->count(), Dtype(0), bottom[1]->mutable_cpu_diff());
    }
  }
  if (!propagate_down[0]) {
    return;
  }
  const Dtype* g = top[0]->cpu_diff();
  Dtype* dx = bottom[0]->mutable_cpu_diff();
  for (int i = 0; i < N_; ++i) {
    const size_t at = static_cast<size_t>(i) * K_;
    caffe_cpu_scale(K_, this->phase_ == TRAIN ? weights_.cpu_data()[N_ + i] : Dtype(1), g + at, dx + at);
  }
}

#ifdef CPU_ONLY
STUB_GPU(NoiseTolerantFRLayer);
#endif

INSTANTIATE_CLASS(NoiseTolerantFRLayer);
REGISTER_LAYER_CLASS(NoiseTolerantFR);

}  // namespace caffe
