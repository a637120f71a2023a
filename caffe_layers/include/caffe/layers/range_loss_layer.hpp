#ifndef CAFFE_RANGE_LOSS_LAYER_HPP_
#define CAFFE_RANGE_LOSS_LAYER_HPP_

#include <map>
#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

#include "caffe/layers/loss_layer.hpp"

namespace caffe {

/**
 * @brief Within a class the harmonic mean of its k largest ranges, between classes the nearest centers:
 *        @f$ w_1 \sum_c k / \sum_{j \le k} \frac1{D_{cj}} + w_2 \max(0, m - D) @f$. Zhang et al. 2017 (Range loss),
 *        RangeLoss-Caffe.
 *
 * bottom 0: f (N, ...), everything from axis 1 on flattened to K
 * bottom 1: the labels, N numbers; a sample with a label below 0 does not count
 * top 0: the loss, a scalar
 *
 * D_cj are the largest squared distances between two samples of class c, up to k of them (fewer where the class has
 * fewer pairs, none of one sample; the published layer reads beyond them), D the smallest squared distance of two
 * classes' mean features in the batch.
 *
 * range_loss_param:
 * - choose_k (2): k
 * - intra_weight (1e-4) w_1, inter_weight (1e-3) w_2, margin (20000) m
 *
 * Backward is the derivative; a class with two equal samples among its k pairs gets 0 from the first term, which is 0.
 * (The published layer has (c_2 - c_1) / 2 n_2 for a sample of class 1 of n_1, in place of 2 (c_2 - c_1) / n_1.) The
 * pairs are looked for on the host in GPU mode too: it is N rows.
 */
template <typename Dtype>
class RangeLossLayer : public LossLayer<Dtype> {
 public:
  explicit RangeLossLayer(const LayerParameter& param) : LossLayer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "RangeLoss"; }
  virtual inline bool AllowForceBackward(const int bottom_index) const { return bottom_index == 0; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);
  virtual void Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);

  struct Pair {
    Dtype distance;
    int first, second;
    bool operator<(const Pair& other) const {
      if (distance != other.distance) {
        return distance > other.distance;
      }
      return first != other.first ? first < other.first : second < other.second;
    }
  };

  int N_, K_;
  // Made by Forward:
  std::map<int, vector<int> > samples_;  // of each class
  vector<vector<Pair> > ranges_;  // that count, of each class
  vector<Dtype> inverse_sums_;  // of each class
  int nearest_[2];  // classes, by their place in the map, or -1 where the second term is 0
  Blob<Dtype> centers_;  // (classes in the batch, K)
};

}  // namespace caffe

#endif  // CAFFE_RANGE_LOSS_LAYER_HPP_
