// CombinedMargin has the kernels of BaseAngleMarginLayer.
#include "caffe/layers/combined_margin_layer.hpp"
