#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "caffe/layers/general_contrastive_loss_layer.hpp"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
void GeneralContrastiveLossLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  const bool weighted = this->layer_param_.loss_weight_size() > 0;
  LossLayer<Dtype>::LayerSetUp(bottom, top);
  if (!weighted && top.size() > 1) {
    this->layer_param_.add_loss_weight(0);
  }
  const GeneralContrastiveParameter& param = this->layer_param_.general_contrastive_loss_param();
  const string& name = this->layer_param_.name();
  CHECK(!param.square()) << "Layer " << name << ": square is not supported; the fork has the field but no code for it";
  // The fork sums absolute values, which only then have the sign that its gradient takes for granted.
  CHECK_GE(param.positive_weight(), 0) << "Layer " << name << ": expected a positive_weight of 0 or more";
  CHECK_GE(param.negative_weight(), 0) << "Layer " << name << ": expected a negative_weight of 0 or more";
  CHECK_GE(param.positive_outlier_thresh(), 0) << "Layer " << name
      << ": expected a positive_outlier_thresh of 0 or more";
  if (param.has_normalize_negative()) {
    CHECK_GT(param.normalize_negative(), 0) << "Layer " << name << ": expected a normalize_negative above 0";
    CHECK(!param.exact_gradient()) << "Layer " << name << ": normalize_negative changes the gradient only; it does "
        << "not go with exact_gradient";
  }
  CHECK(bottom.size() < 3 || !param.exact_gradient()) << "Layer " << name << ": bottom 2 changes the gradient only; it "
      << "does not go with exact_gradient";
  options_.positive_margin = param.positive_margin();
  options_.negative_margin = param.negative_margin();
  options_.positive_weight = param.positive_weight();
  options_.negative_weight = param.negative_weight();
  options_.positive_outlier_thresh = param.positive_outlier_thresh();
  options_.positive_upper_bound = param.positive_upper_bound();
  options_.normalize_negative = param.has_normalize_negative() ? param.normalize_negative() : 0;
  options_.max_negative_margin = param.max_negative_margin();
  options_.max_negative_only = param.max_negative_only();
  options_.max_positive_only = param.max_positive_only();
  options_.positive_first = param.positive_first();
  options_.exp_negative_weight = param.exp_negative_weight();
  options_.exact_gradient = param.exact_gradient();
  options_.update_running_mean = param.add_intra_mae() && this->phase_ == TRAIN;
  state_.Reshape(vector<int>(1, STATES));
  state_.mutable_cpu_data()[RUNNING_MEAN] = 0;
}

template <typename Dtype>
void GeneralContrastiveLossLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  const string& name = this->layer_param_.name();
  CHECK_GE(bottom[0]->num_axes(), 2) << "Layer " << name << ": expected distances (N, C) as bottom 0, got "
      << bottom[0]->shape_string();
  N_ = bottom[0]->shape(0);
  C_ = bottom[0]->count(1);
  CHECK_EQ(bottom[1]->count(), N_) << "Layer " << name << ": expected a label for each row of bottom 0, "
      << bottom[0]->shape_string() << ", got " << bottom[1]->shape_string();
  if (bottom.size() > 2) {
    CHECK_EQ(bottom[2]->count(), bottom[0]->count()) << "Layer " << name << ": expected distances as in bottom 0, "
        << bottom[0]->shape_string() << ", as bottom 2, got " << bottom[2]->shape_string();
  }
  top[0]->Reshape(vector<int>());
  if (top.size() > 1) {
    top[1]->Reshape(vector<int>(1, this->layer_param_.general_contrastive_loss_param().add_intra_mae() ? 3 : 2));
  }
  pull_.Reshape(vector<int>(1, N_));
  negatives_.Reshape(vector<int>(1, N_));
  vector<int> row_sums_shape(2, N_);
  row_sums_shape[0] = 3;
  row_sums_.Reshape(row_sums_shape);
}

template <typename Dtype>
void GeneralContrastiveLossLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  labelled_ = std::max(1, CheckLabels(this->layer_param_.name(), *bottom[1], C_));
  const GeneralContrastiveOptions<Dtype>& options = options_;
  const Dtype* label = bottom[1]->cpu_data();
  const Dtype* basis = bottom[bottom.size() > 2 ? 2 : 0]->cpu_data();  // of the gradient
  Dtype* state = state_.mutable_cpu_data();
  Dtype* pull = pull_.mutable_cpu_data();
  int* negatives = negatives_.mutable_cpu_data();
  const Dtype margin = options.negative_margin + state[RUNNING_MEAN];
  // Sums over thousands of classes: in float the last digits would drown.
  double positives = 0, negative_terms = 0, negative_slopes = 0, short_of_margin = 0;
  Dtype broken = 0;  // or NaN, where a distance is: comparisons pass over it
  Dtype nearest_positive = 0;
  int nearest = -1;
  for (int i = 0; i < N_; ++i) {
    const Dtype* d = bottom[0]->cpu_data() + static_cast<size_t>(i) * C_;
    const int y = ClassOf(label[i]);
    if (y < 0) {
      negatives[i] = options.NO_NEGATIVE;
      continue;
    }
    const Dtype* basis_row = basis + static_cast<size_t>(i) * C_;
    const Dtype positive = std::min(std::max(d[y] - options.positive_margin, Dtype(0)),
        options.positive_outlier_thresh);
    positives += positive;
    if (nearest < 0 || positive < nearest_positive) {
      nearest_positive = positive;
      nearest = i;
    }
    double row_short = 0, row_terms = 0, row_slopes = 0;
    Dtype largest = 0;
    int at = options.NO_NEGATIVE;
    for (int j = 0; j < C_; ++j) {
      if (d[j] != d[j]) {
        broken = d[j];
      }
      if (options.normalize_negative > 0 && j != y && basis_row[j] < margin) {
        row_slopes += options.exp_negative_weight ? std::exp(-basis_row[j]) : Dtype(1);
      }
      if (j == y || d[j] >= margin) {
        continue;
      }
      const Dtype term = options.exp_negative_weight ? std::exp(-d[j]) : margin - d[j];
      row_short += margin - d[j];
      row_terms += term;
      if (at == options.NO_NEGATIVE || term > largest) {
        largest = term;
        at = j;
      }
    }
    short_of_margin += row_short;
    negatives[i] = options.ALL_NEGATIVES;
    if (options.max_negative_only) {
      const bool beaten = y == 0 && options.negative_weight * largest <= options.positive_weight * positive;
      negatives[i] = beaten ? options.NO_NEGATIVE : at;
      row_terms = beaten ? Dtype(0) : largest;
      row_slopes = 0;
      if (negatives[i] >= 0 && basis_row[at] < margin) {
        row_slopes = options.exp_negative_weight ? std::exp(-basis_row[at]) : Dtype(1);
      }
    }
    if (!options.positive_first || !(d[y] > options.positive_upper_bound)) {
      negative_terms += options.negative_weight * row_terms;
    }
    if (!options.positive_first || !(basis_row[y] > options.positive_upper_bound)) {
      negative_slopes += options.negative_weight * row_slopes;
    }
  }
  for (int i = 0; i < N_; ++i) {
    if (label[i] < 0) {
      pull[i] = 0;
      continue;
    }
    const Dtype d = basis[static_cast<size_t>(i) * C_ + static_cast<int>(label[i])];
    const Dtype beyond = d - options.positive_margin;
    bool pulled = beyond > 0 && (options.exact_gradient ? beyond : d) < options.positive_outlier_thresh;
    pulled = pulled && (!options.max_positive_only || i == nearest);
    pulled = pulled || (!options.exact_gradient && options.positive_first && d > options.positive_upper_bound);
    pull[i] = pulled ? options.positive_weight : Dtype(0);
  }
  const double counted = options.max_positive_only ? static_cast<double>(nearest_positive) : positives;
  top[0]->mutable_cpu_data()[0] = (options.positive_weight * counted + negative_terms) / labelled_ + broken;
  state[MARGIN] = margin;
  state[NEGATIVE_FACTOR] = 1;
  if (options.normalize_negative > 0) {
    const Dtype mean = negative_slopes / options.normalize_negative / labelled_;
    state[NEGATIVE_FACTOR] = mean > options.positive_weight ? 1 / mean : Dtype(1);
  }
  const Dtype positive_mean = positives / labelled_;
  if (options.update_running_mean) {
    state[RUNNING_MEAN] = std::min(Dtype(0.99) * state[RUNNING_MEAN] + Dtype(0.01) * positive_mean,
        options.max_negative_margin);
  }
  if (top.size() > 1) {
    Dtype* report = top[1]->mutable_cpu_data();
    report[0] = positive_mean;
    report[1] = short_of_margin / labelled_ / std::max(C_ - 1, 1);
    if (top[1]->count() > 2) {
      report[2] = state[RUNNING_MEAN];
    }
  }
}

template <typename Dtype>
void GeneralContrastiveLossLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  if (bottom.size() > 2 && propagate_down[2]) {
    caffe_set(bottom[2]->count(), Dtype(0), bottom[2]->mutable_cpu_diff());
  }
  if (!propagate_down[0]) {
    return;
  }
  const GeneralContrastiveOptions<Dtype>& options = options_;
  const Dtype* label = bottom[1]->cpu_data();
  const Dtype* state = state_.cpu_data();
  const Dtype rate = top[0]->cpu_diff()[0] / labelled_;
  const Dtype push = -rate * options.negative_weight * state[NEGATIVE_FACTOR];
  for (int i = 0; i < N_; ++i) {
    const Dtype* d = bottom[bottom.size() > 2 ? 2 : 0]->cpu_data() + static_cast<size_t>(i) * C_;
    Dtype* dd = bottom[0]->mutable_cpu_diff() + static_cast<size_t>(i) * C_;
    const int y = ClassOf(label[i]);
    int only = negatives_.cpu_data()[i];
    if (y >= 0 && options.positive_first && d[y] > options.positive_upper_bound) {
      only = options.NO_NEGATIVE;
    }
    for (int j = 0; j < C_; ++j) {
      const bool pushed = (only == options.ALL_NEGATIVES || only == j) && d[j] < state[MARGIN];
      dd[j] = pushed ? push : Dtype(0);
    }
    if (options.exp_negative_weight) {
      for (int j = 0; j < C_; ++j) {
        dd[j] = dd[j] == 0 ? Dtype(0) : dd[j] * std::exp(-d[j]);
      }
    }
    if (y >= 0) {
      dd[y] = rate * pull_.cpu_data()[i];
    }
  }
}

#ifdef CPU_ONLY
STUB_GPU(GeneralContrastiveLossLayer);
#endif

INSTANTIATE_CLASS(GeneralContrastiveLossLayer);
REGISTER_LAYER_CLASS(GeneralContrastiveLoss);

}  // namespace caffe
