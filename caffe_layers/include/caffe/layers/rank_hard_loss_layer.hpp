#ifndef CAFFE_RANK_HARD_LOSS_LAYER_HPP_
#define CAFFE_RANK_HARD_LOSS_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

#include "caffe/layers/loss_layer.hpp"

namespace caffe {

/**
 * @brief A triplet loss of dot products within the batch, with hard and random negatives:
 *        @f$ \frac1n \sum_a \sum_j \max(0, f_a f_j - f_a f_p + m) + \max(0, f_p f_j - f_a f_p + m) @f$.
 *        wujiyang/Triplet-Loss (after Wang and Gupta 2015).
 *
 * bottom 0: f (N, ...), everything from axis 1 on flattened to K; N is a multiple of pair_size
 * bottom 1: the labels, N numbers
 * top 0: the loss, a scalar
 *
 * Every pair_size-th sample a, from the first on, is an anchor, and the next one p its positive. Its negatives j are of
 * other labels, and the first of the two terms is above 0. Up to neg_num of them all count; of more, the neg_num
 * nearest (the largest f_a f_j) are the hard ones, of which hard_ratio neg_num count, drawn at random, and rand_ratio
 * neg_num of all that are left. n is 2 neg_num N / pair_size, as integers divide. An anchor with a label below 0 has no
 * terms, and such a sample is nobody's negative.
 *
 * rank_hard_loss_param:
 * - neg_num (1), pair_size (1): at least 2, as data layers of that fork have it
 * - hard_ratio (0), rand_ratio (0), margin (0.5) m
 *
 * Backward is the derivative. (The published layer leaves out the loss_weight.) The selection is made on the host in
 * GPU mode too: it is N rows.
 */
template <typename Dtype>
class RankHardLossLayer : public LossLayer<Dtype> {
 public:
  explicit RankHardLossLayer(const LayerParameter& param) : LossLayer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "RankHardLoss"; }
  virtual inline bool AllowForceBackward(const int bottom_index) const { return bottom_index == 0; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);
  virtual void Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);

  /// Fills dots_ and negatives_.
  void Select(const Dtype* f, const Dtype* label);

  int N_, K_;
  int pair_size_, negatives_of_each_, hard_, random_;
  Dtype margin_;
  Blob<Dtype> dots_;  // (N, N)
  vector<vector<int> > negatives_;  // of each anchor that count, made by Forward
};

}  // namespace caffe

#endif  // CAFFE_RANK_HARD_LOSS_LAYER_HPP_
