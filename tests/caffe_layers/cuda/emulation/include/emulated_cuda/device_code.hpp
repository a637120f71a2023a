#pragma once
// Comes before everything else of a translated .cu, as CUDA's own header does with nvcc.
#define __CUDACC__ 1
#include <cuda_runtime.h>

#include "emulated_cuda/device.hpp"
