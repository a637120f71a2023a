// Of NVCaffe's own sources, those that the layers stand on, in one piece, for float and for double. Compiled with the
// tree's src/caffe as an include path.
#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/filler.hpp"
#include "caffe/layer.hpp"
#include "caffe/layer_factory.hpp"

// Stand-ins for the net and the solver, which need OpenCV and more: a layer here has none.
#define CAFFE_NET_HPP_
#define CAFFE_PARALLEL_HPP_
#define CAFFE_SOLVER_HPP_
namespace caffe {
class Solver {
 public:
  int iter() const { return 0; }
  int relative_iter() const { return 0; }
  const SolverParameter& param() const { return SolverParameter::default_instance(); }
};
class Net {
 public:
  const Solver* parent_solver() const { return NULL; }
  int solver_rank() const { return 0; }
};
struct P2PManager {
  static int global_count() { return 0; }
  static int global_rank() { return 0; }
};
}  // namespace caffe

// NVCaffe's macros make nine pairs of types, which takes long.
#undef INSTANTIATE_CLASS_FB
#define INSTANTIATE_CLASS_FB(name) \
  template class name<float, float>; \
  template class name<double, double>
#undef REGISTER_LAYER_CLASS
#define REGISTER_LAYER_CLASS(type) \
  static shared_ptr<LayerBase> Make##type(const LayerParameter& param, Type ftype, Type, size_t) { \
    return ftype == DOUBLE ? shared_ptr<LayerBase>(new type##Layer<double, double>(param)) \
        : shared_ptr<LayerBase>(new type##Layer<float, float>(param)); \
  } \
  static LayerRegisterer g_creator_##type(#type, Make##type)

#include "util/math_functions.cpp"  // first, since it specialises what the others use

#include "blob.cpp"
#include "layer.cpp"
#include "syncedmem.cpp"
#include "tensor.cpp"
#include "type.cpp"
#include "layers/accuracy_layer.cpp"
#include "layers/base_conv_layer.cpp"
#include "layers/bias_layer.cpp"
#include "layers/conv_layer.cpp"
#include "layers/scale_layer.cpp"
#include "layers/softmax_layer.cpp"
#include "util/im2col.cpp"

#include "host_parts.hpp"

namespace caffe {
template Filler<float16>* GetFiller<float16>(const FillerParameter& param);  // with ours, as NVCaffe's layers make it
}  // namespace caffe
