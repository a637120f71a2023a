#ifndef CAFFE_FACE_PARAMETER_LAYER_HPP_
#define CAFFE_FACE_PARAMETER_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

/**
 * @brief A learned blob as a top of its own, filled when it is made. NormFace's fork: class agents that a Normalize
 *        layer brings to unit length before an InnerProduct or InnerDistance layer takes them as a bottom.
 *
 * Type "Parameter". Where the tree has that layer, its own class serves layers without blob_filler; both stay.
 *
 * bottom: none
 * top: the blob's data, of the given shape
 *
 * parameter_param:
 * - shape: of the blob.
 * - blob_filler (constant, 0): fills the blob, unless the layer comes with one. Agents need it: a 0 has no direction
 *   that a Normalize layer could keep.
 *
 * Backward: the top's gradient is added to the blob's. Caffe's own layer, and the fork, have one gradient for both, which
 * what reads the top sets: there, with iter_size above 1, only the last pass counts.
 */
template <typename Dtype>
class FaceParameterLayer : public Layer<Dtype> {
 public:
  explicit FaceParameterLayer(const LayerParameter& param) : Layer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "Parameter"; }
  virtual inline int ExactNumBottomBlobs() const { return 0; }
  virtual inline int ExactNumTopBlobs() const { return 1; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);
  virtual void Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);
};

}  // namespace caffe

#endif  // CAFFE_FACE_PARAMETER_LAYER_HPP_
