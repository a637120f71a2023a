#include <algorithm>
#include <string>
#include <vector>

#include "caffe/layers/general_triplet_loss_layer.hpp"
#include "caffe/util/check_labels.hpp"

namespace caffe {

template <typename Dtype>
void GeneralTripletLossLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const bool weighted = this->layer_param_.loss_weight_size() > 0;
  LossLayer<Dtype>::LayerSetUp(bottom, top);
  if (!weighted && top.size() > 1) {
    this->layer_param_.add_loss_weight(0);
  }
  const GeneralTripletParameter& param = this->layer_param_.general_triplet_loss_param();
  const string& name = this->layer_param_.name();
  // The fork sums absolute values, which only then have the sign that its gradient takes for granted.
  CHECK_GE(param.positive_weight(), 0) << "Layer " << name << ": expected a positive_weight of 0 or more";
  CHECK_GE(param.negative_weight(), 0) << "Layer " << name << ": expected a negative_weight of 0 or more";
  CHECK(!param.exact_gradient() || param.positive_weight() == 1) << "Layer " << name << ": positive_weight changes "
      << "the gradient only; it does not go with exact_gradient";
  options_.margin = param.margin();
  options_.positive_weight = param.positive_weight();
  options_.negative_weight = param.negative_weight();
  options_.positive_upper_bound = param.positive_upper_bound();
  options_.add_center_loss = param.add_center_loss();
  options_.hardest_only = param.hardest_only();
  options_.positive_first = param.positive_first();
  options_.exact_gradient = param.exact_gradient();
}

template <typename Dtype>
void GeneralTripletLossLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const string& name = this->layer_param_.name();
  CHECK_GE(bottom[0]->num_axes(), 2) << "Layer " << name << ": expected distances (N, C) as bottom 0, got "
      << bottom[0]->shape_string();
  N_ = bottom[0]->shape(0);
  C_ = bottom[0]->count(1);
  CHECK_EQ(bottom[1]->count(), N_) << "Layer " << name << ": expected a label for each row of bottom 0, "
      << bottom[0]->shape_string() << ", got " << bottom[1]->shape_string();
  top[0]->Reshape(vector<int>());
  if (top.size() > 1) {
    top[1]->Reshape(vector<int>(1, 2));
  }
  const vector<int> rows(1, N_);
  reach_.Reshape(rows);
  pull_.Reshape(rows);
  negatives_.Reshape(rows);
  vector<int> row_sums_shape(2, N_);
  row_sums_shape[0] = 2;
  row_sums_.Reshape(row_sums_shape);
}

template <typename Dtype>
void GeneralTripletLossLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  labelled_ = std::max(1, CheckLabels(this->layer_param_.name(), *bottom[1], C_));
  const GeneralTripletOptions<Dtype>& options = options_;
  const Dtype* label = bottom[1]->cpu_data();
  Dtype* reach = reach_.mutable_cpu_data();
  Dtype* pull = pull_.mutable_cpu_data();
  int* negatives = negatives_.mutable_cpu_data();
  // Sums over thousands of classes: in float the last digits would drown.
  double terms = 0, own = 0, others = 0;
  Dtype broken = 0;  // or NaN, where a distance is: every comparison below passes over it
  for (int i = 0; i < N_; ++i) {
    const Dtype* d = bottom[0]->cpu_data() + static_cast<size_t>(i) * C_;
    const int y = ClassOf(label[i]);
    if (y < 0) {
      reach[i] = pull[i] = 0;
      negatives[i] = options.NO_NEGATIVE;
      continue;
    }
    const bool skipped = options.positive_first && d[y] > options.positive_upper_bound;
    reach[i] = d[y] + options.margin;
    double row_terms = 0, row_others = 0;
    Dtype largest = 0;
    int at = options.NO_NEGATIVE;
    int count = 0;
    for (int j = 0; j < C_; ++j) {
      if (d[j] != d[j]) {
        broken = d[j];
      }
      if (j == y) {
        continue;
      }
      row_others += d[j];
      const Dtype term = reach[i] - d[j];
      if (term > 0) {
        ++count;
        row_terms += term;
        if (term > largest) {
          largest = term;
          at = j;
        }
      }
    }
    own += d[y];
    others += row_others;
    negatives[i] = options.ALL_NEGATIVES;
    if (options.hardest_only) {
      negatives[i] = at;
      row_terms = largest;
      count = std::min(count, 1);
    }
    if (skipped) {
      negatives[i] = options.NO_NEGATIVE;
      row_terms = 0;
      count = 0;
    }
    terms += row_terms;
    if (options.exact_gradient) {
      pull[i] = options.negative_weight * count;
    } else {
      pull[i] = count > 0 || skipped || options.add_center_loss ? options.positive_weight : Dtype(0);
    }
  }
  top[0]->mutable_cpu_data()[0] = options.negative_weight * terms / labelled_ + broken;
  if (top.size() > 1) {
    top[1]->mutable_cpu_data()[0] = own / labelled_;
    top[1]->mutable_cpu_data()[1] = others / labelled_ / std::max(C_ - 1, 1);
  }
}

template <typename Dtype>
void GeneralTripletLossLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  if (!propagate_down[0]) {
    return;
  }
  const GeneralTripletOptions<Dtype>& options = options_;
  const Dtype* label = bottom[1]->cpu_data();
  const Dtype rate = top[0]->cpu_diff()[0] / labelled_;
  const Dtype push = -rate * options.negative_weight;
  for (int i = 0; i < N_; ++i) {
    const Dtype* d = bottom[0]->cpu_data() + static_cast<size_t>(i) * C_;
    Dtype* dd = bottom[0]->mutable_cpu_diff() + static_cast<size_t>(i) * C_;
    const Dtype reach = reach_.cpu_data()[i];
    const int only = negatives_.cpu_data()[i];
    for (int j = 0; j < C_; ++j) {
      const bool pushed = (only == options.ALL_NEGATIVES || only == j) && reach - d[j] > 0;
      dd[j] = pushed ? push : Dtype(0);
    }
    if (label[i] >= 0) {
      dd[static_cast<int>(label[i])] = rate * pull_.cpu_data()[i];
    }
  }
}

#ifdef CPU_ONLY
STUB_GPU(GeneralTripletLossLayer);
#endif

INSTANTIATE_CLASS(GeneralTripletLossLayer);
REGISTER_LAYER_CLASS(GeneralTripletLoss);

}  // namespace caffe
