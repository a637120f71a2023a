// A fork's layer, compiled under another name, beside ours in libcaffe:
//   -DFORK_CLASS=CosinAddmLayer -DFORK_SOURCE="..." -Ifolder with caffe/layers/the fork's header
// What the fork's files take for granted of their tree is declared first.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <functional>
#include <map>
#include <queue>
#include <string>
#include <utility>
#include <vector>

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/filler.hpp"
#include "caffe/layer.hpp"
#include "caffe/layer_factory.hpp"
#include "caffe/layers/loss_layer.hpp"
#include "caffe/util/math_functions.hpp"
#include "caffe/util/rng.hpp"

namespace cv {}

#undef STUB_GPU  // of functions that one of them does not declare
#define STUB_GPU(type)
#undef REGISTER_LAYER_CLASS
#define REGISTER_LAYER_CLASS(type)
#include FORK_SOURCE

namespace caffe {

shared_ptr<Layer<double> > ForkLayer(const LayerParameter& param) {
  return shared_ptr<Layer<double> >(new FORK_CLASS<double>(param));
}

}  // namespace caffe
