#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "caffe/layers/rank_hard_loss_layer.hpp"
#include "caffe/util/math_functions.hpp"
#include "caffe/util/rng.hpp"

namespace caffe {

/// Puts `count` of the numbers, drawn at random, first.
static void DrawFirst(vector<int>* from, int count) {
  const int size = from->size();
  for (int i = 0; i < std::min(count, size); ++i) {
    std::swap((*from)[i], (*from)[i + caffe_rng_rand() % (size - i)]);
  }
}

template <typename Dtype>
void RankHardLossLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  LossLayer<Dtype>::LayerSetUp(bottom, top);
  const RankHardLossParameter& param = this->layer_param_.rank_hard_loss_param();
  const string& name = this->layer_param_.name();
  CHECK_GE(param.pair_size(), 2) << "Layer " << name << ": expected a pair_size of 2 or more: an anchor's positive is "
      << "the sample after it";
  CHECK_GE(param.neg_num(), 1) << "Layer " << name << ": expected a neg_num of 1 or more";
  CHECK(param.hard_ratio() >= 0 && param.rand_ratio() >= 0) << "Layer " << name << ": expected a hard_ratio and a "
      << "rand_ratio of 0 or more";
  pair_size_ = param.pair_size();
  negatives_of_each_ = param.neg_num();
  hard_ = param.neg_num() * param.hard_ratio();
  random_ = param.neg_num() * param.rand_ratio();
  margin_ = param.margin();
}

template <typename Dtype>
void RankHardLossLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const string& name = this->layer_param_.name();
  CHECK_GE(bottom[0]->num_axes(), 1) << "Layer " << name << ": expected features (N, ...)";
  N_ = bottom[0]->shape(0);
  K_ = bottom[0]->count(1);
  CHECK_EQ(N_ % pair_size_, 0) << "Layer " << name << ": expected a batch of a multiple of " << pair_size_
      << " samples (pair_size), got " << N_;
  CHECK_EQ(bottom[1]->count(), N_) << "Layer " << name << ": expected " << N_ << " labels as bottom 1, got "
      << bottom[1]->shape_string();
  top[0]->Reshape(vector<int>());
  dots_.Reshape(vector<int>(2, N_));
}

template <typename Dtype>
void RankHardLossLayer<Dtype>::Select(const Dtype* f, const Dtype* label) {
  Dtype* dots = dots_.mutable_cpu_data();
  caffe_cpu_gemm<Dtype>(CblasNoTrans, CblasTrans, N_, N_, K_, Dtype(1), f, f, Dtype(0), dots);
  negatives_.assign(N_ / pair_size_, vector<int>());
  for (int pair = 0; pair < negatives_.size(); ++pair) {
    const int a = pair * pair_size_;
    const Dtype* dot = dots + a * N_;
    vector<std::pair<Dtype, int> > candidates;
    for (int j = 0; j < N_ && label[a] >= 0; ++j) {
      // Not above 0, and not NaN, which has to reach the loss.
      if (label[j] >= 0 && label[j] != label[a] && !(dot[j] - dot[a + 1] + margin_ <= 0)) {
        candidates.push_back(std::make_pair(-dot[j], j));
      }
    }
    vector<int>* chosen = &negatives_[pair];
    const int hard_ones = negatives_of_each_;
    if (candidates.size() > hard_ones) {
      std::sort(candidates.begin(), candidates.end());
    }
    vector<int> order;
    for (int k = 0; k < candidates.size(); ++k) {
      order.push_back(candidates[k].second);
    }
    if (order.size() <= hard_ones) {
      *chosen = order;
      continue;
    }
    vector<int> hard(order.begin(), order.begin() + hard_ones), rest(order.begin() + hard_ones, order.end());
    const int taken = std::min(hard_, hard_ones);
    if (taken < hard_ones) {
      DrawFirst(&hard, taken);
    }
    chosen->assign(hard.begin(), hard.begin() + taken);
    rest.insert(rest.end(), hard.begin() + taken, hard.end());
    const int drawn = std::min<int>(random_, rest.size());
    DrawFirst(&rest, drawn);
    chosen->insert(chosen->end(), rest.begin(), rest.begin() + drawn);
  }
}

template <typename Dtype>
void RankHardLossLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  Select(bottom[0]->cpu_data(), bottom[1]->cpu_data());
  const Dtype* dots = dots_.cpu_data();
  double sum = 0;
  for (int pair = 0; pair < negatives_.size(); ++pair) {
    const int a = pair * pair_size_;
    for (int k = 0; k < negatives_[pair].size(); ++k) {
      const int j = negatives_[pair][k];
      const Dtype from_anchor = dots[a * N_ + j] - dots[a * N_ + a + 1] + margin_;
      const Dtype from_positive = dots[(a + 1) * N_ + j] - dots[a * N_ + a + 1] + margin_;
      sum += from_anchor < 0 ? Dtype(0) : from_anchor;  // NaN stays
      sum += from_positive < 0 ? Dtype(0) : from_positive;
    }
  }
  top[0]->mutable_cpu_data()[0] = sum / (negatives_of_each_ * N_ / pair_size_ * 2);
}

template <typename Dtype>
void RankHardLossLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  if (!propagate_down[0]) {
    return;
  }
  const Dtype rate = top[0]->cpu_diff()[0] / (negatives_of_each_ * N_ / pair_size_ * 2);
  const Dtype* f = bottom[0]->cpu_data();
  const Dtype* dots = dots_.cpu_data();
  Dtype* df = bottom[0]->mutable_cpu_diff();
  caffe_set(N_ * K_, Dtype(0), df);
  for (int pair = 0; pair < negatives_.size(); ++pair) {
    const int a = pair * pair_size_, p = a + 1;
    for (int k = 0; k < negatives_[pair].size(); ++k) {
      const int j = negatives_[pair][k];
      for (int from = a; from <= p; ++from) {
        if (dots[from * N_ + j] - dots[a * N_ + p] + margin_ > 0) {
          caffe_axpy(K_, rate, f + j * K_, df + from * K_);
          caffe_axpy(K_, rate, f + from * K_, df + j * K_);
          caffe_axpy(K_, -rate, f + p * K_, df + a * K_);
          caffe_axpy(K_, -rate, f + a * K_, df + p * K_);
        }
      }
    }
  }
}

#ifdef CPU_ONLY
STUB_GPU(RankHardLossLayer);
#endif

INSTANTIATE_CLASS(RankHardLossLayer);
REGISTER_LAYER_CLASS(RankHardLoss);

}  // namespace caffe
