#ifndef CAFFE_ONE_TYPE_LAYER_HPP_
#define CAFFE_ONE_TYPE_LAYER_HPP_

#include <vector>

#include "caffe/layer.hpp"
#include "caffe/one_type/blob.hpp"

namespace caffe { namespace one_type {

/**
 * @brief The Layer<Dtype> of BVLC Caffe in a tree of NVCaffe 0.16 or later: a Layer<Dtype, Dtype> there.
 *
 * NVCaffe calls the methods that take its own blobs; each hands the same blobs on as Blob<Dtype>, to the methods that a
 * source of BVLC Caffe overrides. `blobs_` is the layer's own list of the blobs in LayerBase::blobs_: what a source puts
 * there NVCaffe finds, and the other way round.
 *
 * Kernels run in Caffe::thread_stream(), as all of NVCaffe's do, so that they come in turn with its own (the transplant
 * names it in every launch), and the stream is waited for at the end, as NVCaffe's own layers do: other threads, which
 * add gradients up across GPUs, read what was written.
 */
template <typename Dtype>
class Layer : public caffe::Layer<Dtype, Dtype> {
  typedef caffe::Layer<Dtype, Dtype> Tree;
  typedef std::vector<caffe::Blob*> TreeBlobs;
  typedef std::vector<Blob<Dtype>*> Blobs;

 public:
  explicit Layer(const LayerParameter& param) : Tree(param) { TakeBlobs(); }

  // ---[ What sources override and call, as in BVLC Caffe
  virtual void LayerSetUp(const Blobs& bottom, const Blobs& top) {}
  virtual void Reshape(const Blobs& bottom, const Blobs& top) = 0;
  void SetUp(const Blobs& bottom, const Blobs& top) { Tree::SetUp(OfTree(bottom), OfTree(top)); }
  Dtype Forward(const Blobs& bottom, const Blobs& top) { return Tree::Forward(OfTree(bottom), OfTree(top)); }
  void Backward(const Blobs& top, const std::vector<bool>& propagate_down, const Blobs& bottom) {
    Tree::Backward(OfTree(top), propagate_down, OfTree(bottom));
  }
  std::vector<shared_ptr<Blob<Dtype> > >& blobs() { return blobs_; }
  /// The tree's own layer of these types where this is one that only stands for it; none for any other.
  virtual shared_ptr<LayerBase> TreesOwn(const LayerParameter& param, Type ftype, Type btype) const {
    return shared_ptr<LayerBase>();
  }

  // ---[ What NVCaffe calls
  virtual void LayerSetUp(const TreeBlobs& bottom, const TreeBlobs& top) {
    TakeBlobs();
    LayerSetUp(views_.Of(bottom), views_.Of(top));
    GiveBlobs();
  }
  virtual void Reshape(const TreeBlobs& bottom, const TreeBlobs& top) {
    TakeBlobs();
    Reshape(views_.Of(bottom), views_.Of(top));
    GiveBlobs();
  }
  virtual float Forward(const TreeBlobs& bottom, const TreeBlobs& top) { return Tree::Forward(bottom, top); }
  virtual void Backward(const TreeBlobs& top, const std::vector<bool>& propagate_down, const TreeBlobs& bottom) {
    Tree::Backward(top, propagate_down, bottom);
  }

 protected:
  virtual void Forward_cpu(const Blobs& bottom, const Blobs& top) = 0;
  virtual void Forward_gpu(const Blobs& bottom, const Blobs& top) { Forward_cpu(bottom, top); }
  virtual void Backward_cpu(const Blobs& top, const std::vector<bool>& propagate_down, const Blobs& bottom) = 0;
  virtual void Backward_gpu(const Blobs& top, const std::vector<bool>& propagate_down, const Blobs& bottom) {
    Backward_cpu(top, propagate_down, bottom);
  }

  virtual void Forward_cpu(const TreeBlobs& bottom, const TreeBlobs& top) {
    TakeBlobs();
    Forward_cpu(views_.Of(bottom), views_.Of(top));
    GiveBlobs();
  }
  virtual void Forward_gpu(const TreeBlobs& bottom, const TreeBlobs& top) {
    TakeBlobs();
    Forward_gpu(views_.Of(bottom), views_.Of(top));
    GiveBlobs();
    CUDA_CHECK(cudaStreamSynchronize(Caffe::thread_stream()));
  }
  virtual void Backward_cpu(const TreeBlobs& top, const std::vector<bool>& propagate_down, const TreeBlobs& bottom) {
    TakeBlobs();
    Backward_cpu(views_.Of(top), propagate_down, views_.Of(bottom));
    GiveBlobs();
  }
  virtual void Backward_gpu(const TreeBlobs& top, const std::vector<bool>& propagate_down, const TreeBlobs& bottom) {
    TakeBlobs();
    Backward_gpu(views_.Of(top), propagate_down, views_.Of(bottom));
    GiveBlobs();
    CUDA_CHECK(cudaStreamSynchronize(Caffe::thread_stream()));
  }

  std::vector<shared_ptr<Blob<Dtype> > > blobs_;

 private:
  /// Takes over what NVCaffe has put into LayerBase::blobs_ since this layer gave it its own.
  void TakeBlobs() {
    const std::vector<shared_ptr<caffe::Blob> >& there = LayerBase::blobs_;
    if (there == given_) {
      return;
    }
    blobs_.resize(there.size());
    for (size_t i = 0; i < there.size(); ++i) {
      if (!blobs_[i] || blobs_[i]->shared() != there[i]) {
        blobs_[i].reset(new Blob<Dtype>(there[i]));
      }
    }
    given_ = there;
  }

  void GiveBlobs() {
    given_.resize(blobs_.size());
    for (size_t i = 0; i < blobs_.size(); ++i) {
      given_[i] = blobs_[i] ? blobs_[i]->shared() : shared_ptr<caffe::Blob>();
    }
    LayerBase::blobs_ = given_;
  }

  BlobViews<Dtype> views_;
  std::vector<shared_ptr<caffe::Blob> > given_;
};

/// BVLC Caffe's: two bottoms, and as a top the loss, which counts once unless the net says otherwise.
template <typename Dtype>
class LossLayer : public Layer<Dtype> {
 public:
  explicit LossLayer(const LayerParameter& param) : Layer<Dtype>(param) {}
  virtual void LayerSetUp(const std::vector<Blob<Dtype>*>& bottom, const std::vector<Blob<Dtype>*>& top) {
    if (this->layer_param_.loss_weight_size() == 0) {
      this->layer_param_.add_loss_weight(1);
    }
  }
  virtual void Reshape(const std::vector<Blob<Dtype>*>& bottom, const std::vector<Blob<Dtype>*>& top) {
    CHECK_EQ(bottom[0]->shape(0), bottom[1]->shape(0)) << "The data and label should have the same first dimension.";
    top[0]->Reshape(std::vector<int>());
  }
  virtual inline int ExactNumBottomBlobs() const { return 2; }
  virtual inline bool AutoTopBlobs() const { return true; }
  virtual inline int ExactNumTopBlobs() const { return 1; }
  virtual inline bool AllowForceBackward(const int bottom_index) const { return bottom_index != 1; }
};

} }  // namespace one_type, caffe

#endif  // CAFFE_ONE_TYPE_LAYER_HPP_
