#ifndef CAFFE_CENTER_LOSS_LAYER_HPP_
#define CAFFE_CENTER_LOSS_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

#include "caffe/layers/loss_layer.hpp"

namespace caffe {

/**
 * @brief Features' distance to their class's center: @f$ \frac1{2N} \sum_i \sum_k (f_{ik} - c_{yk})^2 @f$, or with
 *        distance_type "L1" @f$ \frac1N \sum_i \sum_k |f_{ik} - c_{yk}| @f$. Wen et al. 2016 (center loss), equations
 *        2 to 4.
 *
 * bottom 0: f (N, ...), everything from axis 1 on flattened to K
 * bottom 1: the labels y, N numbers; N counts the samples with a label of 0 or more only
 * top 0: the loss, a scalar
 * blob 0: the centers c (C, K)
 *
 * center_loss_param:
 * - num_output: C
 * - center_filler: of the centers.
 * - axis (1): only 1.
 * - distance_type ("L2"): "L2" (squared) or "L1".
 * - center_step (PAPER): the gradient of the centers. With p the sum over the n samples of a class of c - f ("L1": of
 *   its sign)
 *   - PAPER: p / (1 + n), equation 4 and caffe-face. With a base_lr * lr_mult up to 1 no center steps past the mean
 *     of its samples, however many they are.
 *   - FORK: n / (1 + n) p, NormFace's fork, which adds the paper's step once for each of the n samples. Say it to train
 *     that fork's nets as they did.
 *   - DERIVATIVE: of the loss, so that it carries the loss_weight, which in the two others acts on the features only.
 *
 * Backward: df = loss_weight (f - c) / N, "L1": of its sign. The cost is that of N rows, not of C.
 */
template <typename Dtype>
class CenterLossLayer : public LossLayer<Dtype> {
 public:
  explicit CenterLossLayer(const LayerParameter& param) : LossLayer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "CenterLoss"; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);
  virtual void Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);

  int N_, C_, K_;
  int labelled_;  // of the last Forward's samples, or 1
  bool l1_;
  Blob<Dtype> slope_;  // (N, K), made by Forward: f - c, or with "L1" its sign
};

}  // namespace caffe

#endif  // CAFFE_CENTER_LOSS_LAYER_HPP_
