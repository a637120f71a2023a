#ifndef CAFFE_ONE_TYPE_SOURCES_HPP_
#define CAFFE_ONE_TYPE_SOURCES_HPP_

// What a source of BVLC Caffe needs in NVCaffe 0.16 or later, where Layer has two types. The transplant puts the face
// layers into the namespace caffe::one_type, and includes this in each of them, behind what they include themselves: the
// names here hide those of the namespace caffe around it, and everything else is NVCaffe's.

#include <vector>

#include "caffe/layer_factory.hpp"
#include "caffe/one_type/blob.hpp"
#include "caffe/one_type/layer.hpp"
#include "caffe/one_type/tree_layer.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype> class Filler;
template <typename Dtype> Filler<Dtype>* GetFiller(const FillerParameter& param);

namespace one_type {

template <typename Dtype>
class Filler {
 public:
  explicit Filler(caffe::Filler<Dtype>* filler) : filler_(filler) {}
  void Fill(Blob<Dtype>* blob) { filler_->Fill(blob->of_tree()); }

 private:
  shared_ptr<caffe::Filler<Dtype> > filler_;
};

/// The transplant puts the namespace before each call: by that of its argument, NVCaffe's function would be found too.
template <typename Dtype>
Filler<Dtype>* GetFiller(const FillerParameter& param) {
  return new Filler<Dtype>(caffe::GetFiller<Dtype>(param));
}

/// NVCaffe's gives a float for doubles too.
template <typename Dtype>
Dtype caffe_cpu_asum(const int n, const Dtype* x) {
  Dtype sum = 0;
  for (int i = 0; i < n; ++i) {
    sum += x[i] < 0 ? -x[i] : x[i];
  }
  return sum;
}

/// NVCaffe's asks for the group of streams.
template <typename Dtype>
void caffe_gpu_asum(const int n, const Dtype* x, Dtype* y) {
  caffe::caffe_gpu_asum(n, x, y, 0);
}

/**
 * @brief The layer that a source's creator makes, for the types that the net asks for.
 *
 * Where that is NVCaffe's own class alone, all types that NVCaffe has; for the face layers float and double.
 */
template <typename Dtype>
shared_ptr<LayerBase> Chosen(shared_ptr<Layer<Dtype> > (*creator)(const LayerParameter&), const LayerParameter& param,
    Type ftype, Type btype) {
  const shared_ptr<Layer<Dtype> > layer = creator(param);
  if (const shared_ptr<LayerBase> own = layer->TreesOwn(param, ftype, btype)) {
    return own;
  }
  CHECK(ftype == tp<Dtype>() && btype == tp<Dtype>()) << "Layer " << param.name() << " of type " << param.type()
      << " computes in float or in double, forward and backward alike, and not in " << Type_Name(ftype) << " and "
      << Type_Name(btype) << "; give this layer forward_type: FLOAT and backward_type: FLOAT";
  return layer;
}

inline shared_ptr<LayerBase> Create(shared_ptr<Layer<float> > (*in_float)(const LayerParameter&),
    shared_ptr<Layer<double> > (*in_double)(const LayerParameter&), const LayerParameter& param, Type ftype,
    Type btype) {
  return ftype == DOUBLE && btype == DOUBLE ? Chosen<double>(in_double, param, ftype, btype)
      : Chosen<float>(in_float, param, ftype, btype);
}

} }  // namespace one_type, caffe

// BVLC Caffe's macros, for one type.
#undef INSTANTIATE_CLASS
#define INSTANTIATE_CLASS(classname) \
  char gInstantiationGuard##classname; \
  template class classname<float>; \
  template class classname<double>

#define FACE_FORWARD_GPU(classname, Dtype) \
  template void classname<Dtype>::Forward_gpu(const std::vector<Blob<Dtype>*>& bottom, \
      const std::vector<Blob<Dtype>*>& top)
#define FACE_BACKWARD_GPU(classname, Dtype) \
  template void classname<Dtype>::Backward_gpu(const std::vector<Blob<Dtype>*>& top, \
      const std::vector<bool>& propagate_down, const std::vector<Blob<Dtype>*>& bottom)

#undef INSTANTIATE_LAYER_GPU_FORWARD
#define INSTANTIATE_LAYER_GPU_FORWARD(classname) \
  FACE_FORWARD_GPU(classname, float); \
  FACE_FORWARD_GPU(classname, double)

#undef INSTANTIATE_LAYER_GPU_BACKWARD
#define INSTANTIATE_LAYER_GPU_BACKWARD(classname) \
  FACE_BACKWARD_GPU(classname, float); \
  FACE_BACKWARD_GPU(classname, double)

#undef INSTANTIATE_LAYER_GPU_FUNCS
#define INSTANTIATE_LAYER_GPU_FUNCS(classname) \
  INSTANTIATE_LAYER_GPU_FORWARD(classname); \
  INSTANTIATE_LAYER_GPU_BACKWARD(classname)

#undef REGISTER_LAYER_CREATOR
#define REGISTER_LAYER_CREATOR(type, creator) \
  static shared_ptr<LayerBase> CreateOneType##type(const LayerParameter& param, Type ftype, Type btype, size_t) { \
    return Create(creator<float>, creator<double>, param, ftype, btype); \
  } \
  static LayerRegisterer g_creator_##type(#type, CreateOneType##type)

#undef REGISTER_LAYER_CLASS
#define REGISTER_LAYER_CLASS(type) \
  template <typename Dtype> \
  shared_ptr<Layer<Dtype> > Creator_##type##Layer(const LayerParameter& param) { \
    return shared_ptr<Layer<Dtype> >(new type##Layer<Dtype>(param)); \
  } \
  REGISTER_LAYER_CREATOR(type, Creator_##type##Layer)

#endif  // CAFFE_ONE_TYPE_SOURCES_HPP_
