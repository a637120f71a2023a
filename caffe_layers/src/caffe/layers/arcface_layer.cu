// Arcface has the kernels of BaseAngleMarginLayer.
#include "caffe/layers/arcface_layer.hpp"
