#ifndef CAFFE_ONE_TYPE_TREE_LAYER_HPP_
#define CAFFE_ONE_TYPE_TREE_LAYER_HPP_

#include <typeinfo>
#include <vector>

#include "caffe/layer_factory.hpp"
#include "caffe/one_type/layer.hpp"

namespace caffe {

template <typename Ftype, typename Btype> class AccuracyLayer;
template <typename Ftype, typename Btype> class ConvolutionLayer;
template <typename Ftype, typename Btype> class InnerProductLayer;
template <typename Ftype, typename Btype> class NormalizeLayer;
template <typename Ftype, typename Btype> class ParameterLayer;
template <typename Ftype, typename Btype> class ScaleLayer;

namespace one_type {

/**
 * @brief A layer of NVCaffe's own as a Layer<Dtype>: what is called here is done by the one within.
 *
 * The blobs are the same on both sides. The one within is made anew in LayerSetUp, from the parameters as they are then.
 */
template <typename Dtype>
class TreeLayer : public Layer<Dtype> {
  typedef std::vector<Blob<Dtype>*> Blobs;

 public:
  typedef shared_ptr<LayerBase> (*Maker)(const LayerParameter&);

  TreeLayer(const LayerParameter& param, Maker maker) : Layer<Dtype>(param), maker_(maker), within_(maker(param)) {}

  virtual void LayerSetUp(const Blobs& bottom, const Blobs& top) {
    within_ = maker_(this->layer_param_);
    Give();
    within_->LayerSetUp(OfTree(bottom), OfTree(top));
    this->layer_param_ = within_->layer_param();
    const std::vector<shared_ptr<caffe::Blob> >& made = within_->blobs();
    this->blobs_.resize(made.size());
    for (size_t i = 0; i < made.size(); ++i) {
      if (!this->blobs_[i] || this->blobs_[i]->shared() != made[i]) {
        this->blobs_[i].reset(new Blob<Dtype>(made[i]));
      }
    }
    this->param_propagate_down_.resize(made.size(), true);
  }
  virtual void Reshape(const Blobs& bottom, const Blobs& top) {
    Give();
    within_->Reshape(OfTree(bottom), OfTree(top));
  }

  virtual inline const char* type() const { return within_->type(); }
  virtual inline int ExactNumBottomBlobs() const { return within_->ExactNumBottomBlobs(); }
  virtual inline int MinBottomBlobs() const { return within_->MinBottomBlobs(); }
  virtual inline int MaxBottomBlobs() const { return within_->MaxBottomBlobs(); }
  virtual inline int ExactNumTopBlobs() const { return within_->ExactNumTopBlobs(); }
  virtual inline int MinTopBlobs() const { return within_->MinTopBlobs(); }
  virtual inline int MaxTopBlobs() const { return within_->MaxTopBlobs(); }
  virtual inline bool EqualNumBottomTopBlobs() const { return within_->EqualNumBottomTopBlobs(); }
  virtual inline bool AutoTopBlobs() const { return within_->AutoTopBlobs(); }
  virtual inline bool AllowForceBackward(const int index) const { return within_->AllowForceBackward(index); }

 protected:
  // The one within looks itself whether to use the CPU or the GPU.
  virtual void Forward_cpu(const Blobs& bottom, const Blobs& top) {
    Give();
    within_->Forward(OfTree(bottom), OfTree(top));
  }
  virtual void Forward_gpu(const Blobs& bottom, const Blobs& top) { TreeLayer<Dtype>::Forward_cpu(bottom, top); }
  virtual void Backward_cpu(const Blobs& top, const std::vector<bool>& propagate_down, const Blobs& bottom) {
    Give();
    within_->Backward(OfTree(top), propagate_down, OfTree(bottom));
  }
  virtual void Backward_gpu(const Blobs& top, const std::vector<bool>& propagate_down, const Blobs& bottom) {
    TreeLayer<Dtype>::Backward_cpu(top, propagate_down, bottom);
  }

  LayerBase* within() const { return within_.get(); }

 private:
  void Give() {
    std::vector<shared_ptr<caffe::Blob> >& there = within_->blobs();
    there.resize(this->blobs_.size());
    for (size_t i = 0; i < this->blobs_.size(); ++i) {
      there[i] = this->blobs_[i]->shared();
    }
    for (size_t i = 0; i < this->param_propagate_down_.size(); ++i) {
      within_->set_param_propagate_down(i, this->param_propagate_down_[i]);
    }
    within_->set_parent_net(this->parent_net());
  }

  Maker maker_;
  shared_ptr<LayerBase> within_;
};

/// TreeLayer of a class that our sources build on, or make where a net uses none of our fields.
template <typename Dtype, template <typename, typename> class Tree>
class StockLayer : public TreeLayer<Dtype> {
 public:
  explicit StockLayer(const LayerParameter& param) : TreeLayer<Dtype>(param, &Make) {}
  /// For a StockLayer itself, and for nothing built on it: there NVCaffe's own serves, in all types that it has.
  virtual shared_ptr<LayerBase> TreesOwn(const LayerParameter& param, Type ftype, Type btype) const {
    return typeid(*this) == typeid(StockLayer) ? CreateLayerBase<Tree>(param, ftype, btype) : shared_ptr<LayerBase>();
  }

 private:
  static shared_ptr<LayerBase> Make(const LayerParameter& param) {
    return shared_ptr<LayerBase>(new Tree<Dtype, Dtype>(param));
  }
};

template <typename Dtype> using AccuracyLayer = StockLayer<Dtype, caffe::AccuracyLayer>;
template <typename Dtype> using InnerProductLayer = StockLayer<Dtype, caffe::InnerProductLayer>;
template <typename Dtype> using NormalizeLayer = StockLayer<Dtype, caffe::NormalizeLayer>;
template <typename Dtype> using ParameterLayer = StockLayer<Dtype, caffe::ParameterLayer>;
template <typename Dtype> using ScaleLayer = StockLayer<Dtype, caffe::ScaleLayer>;

/// NVCaffe's, with the members open that a kernel of ours reads.
template <typename Dtype>
class OpenConvolution : public caffe::ConvolutionLayer<Dtype, Dtype> {
  typedef caffe::ConvolutionLayer<Dtype, Dtype> Tree;

 public:
  explicit OpenConvolution(const LayerParameter& param) : Tree(param) {}
  using Tree::bias_term_;
  using Tree::channel_axis_;
  using Tree::dilation_;
  using Tree::kernel_shape_;
  using Tree::num_;
  using Tree::num_spatial_axes_;
  using Tree::pad_;
  using Tree::stride_;
};

template <typename Dtype>
class ConvolutionLayer : public TreeLayer<Dtype> {
  typedef std::vector<Blob<Dtype>*> Blobs;

 public:
  explicit ConvolutionLayer(const LayerParameter& param) : TreeLayer<Dtype>(param, &Make) {}
  virtual void LayerSetUp(const Blobs& bottom, const Blobs& top) {
    TreeLayer<Dtype>::LayerSetUp(bottom, top);
    ReadSizes();
  }
  virtual void Reshape(const Blobs& bottom, const Blobs& top) {
    TreeLayer<Dtype>::Reshape(bottom, top);
    ReadSizes();
  }

 protected:
  Blob<int> kernel_shape_, stride_, pad_, dilation_;
  int num_spatial_axes_, channel_axis_, num_;
  bool bias_term_;

 private:
  static shared_ptr<LayerBase> Make(const LayerParameter& param) {
    return shared_ptr<LayerBase>(new OpenConvolution<Dtype>(param));
  }

  void ReadSizes() {
    const OpenConvolution<Dtype>& open = dynamic_cast<const OpenConvolution<Dtype>&>(*this->within());
    Copy(open.kernel_shape_, &kernel_shape_);
    Copy(open.stride_, &stride_);
    Copy(open.pad_, &pad_);
    Copy(open.dilation_, &dilation_);
    num_spatial_axes_ = open.num_spatial_axes_;
    channel_axis_ = open.channel_axis_;
    num_ = open.num_;
    bias_term_ = open.bias_term_;
  }
  static void Copy(const caffe::Blob& from, Blob<int>* to) {
    to->Reshape(from.shape());
    for (int i = 0; i < from.count(); ++i) {
      to->mutable_cpu_data()[i] = from.cpu_data<int>()[i];
    }
  }
};

/// BVLC Caffe's LayerRegistry<Dtype>, where a source asks for a layer of another type: NVCaffe's own, in Dtype.
template <typename Dtype>
class LayerRegistry {
 public:
  static shared_ptr<Layer<Dtype> > CreateLayer(const LayerParameter& param) {
    return shared_ptr<Layer<Dtype> >(new TreeLayer<Dtype>(param, &Make));
  }

 private:
  static shared_ptr<LayerBase> Make(const LayerParameter& param) {
    LayerParameter typed(param);
    typed.set_forward_type(tp<Dtype>());
    typed.set_backward_type(tp<Dtype>());
    typed.set_forward_math(tp<Dtype>());
    typed.set_backward_math(tp<Dtype>());
    return caffe::LayerRegistry::CreateLayer(typed, 0);
  }
};

} }  // namespace one_type, caffe

#endif  // CAFFE_ONE_TYPE_TREE_LAYER_HPP_
