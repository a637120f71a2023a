#ifndef CAFFE_FACE_ACCURACY_LAYER_HPP_
#define CAFFE_FACE_ACCURACY_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layers/accuracy_layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

/**
 * @brief Caffe's Accuracy for scores of which the smallest is the best, such as distances: Caffe's own of -x.
 *        NormFace's fork.
 *
 * Type "Accuracy". The tree's own class does the counting, and serves layers without min_is_better alone; both stay.
 *
 * bottom 0: x (N, C, ...), with the classes on `axis`
 * bottom 1: labels, N times as many as there are positions
 * top 0: the share of samples whose label is among the top_k
 * top 1 (optional, where the tree has it): that share for each class, (C)
 *
 * accuracy_param, as in Caffe's own layer (top_k, axis, ignore_label), and
 * - min_is_better (false): with true the smallest score is the best.
 * How a tie counts is the tree's affair; in Caffe 1.0 it counts against the label. A label that is neither a class nor
 * ignore_label stops the run, where Caffe's own layer reads beyond the scores.
 *
 * Backward: none, as in Caffe's own layer.
 */
template <typename Dtype>
class FaceAccuracyLayer : public AccuracyLayer<Dtype> {
 public:
  explicit FaceAccuracyLayer(const LayerParameter& param) : AccuracyLayer<Dtype>(param) {}
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  void CheckScoredLabels(const vector<Blob<Dtype>*>& bottom) const;

  Blob<Dtype> negated_;  // -x; a GPU's AccuracyLayer uses its diff too
};

}  // namespace caffe

#endif  // CAFFE_FACE_ACCURACY_LAYER_HPP_
