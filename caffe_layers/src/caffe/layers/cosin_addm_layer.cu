// CosinAddm has the kernels of BaseAngleMarginLayer.
#include "caffe/layers/cosin_addm_layer.hpp"
