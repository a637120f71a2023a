#ifndef CAFFE_CUDA13_DEVICE_PROPERTIES_HPP_
#define CAFFE_CUDA13_DEVICE_PROPERTIES_HPP_

// CUDA 13 took three fields out of cudaDeviceProp that Caffe::DeviceQuery prints. Included before a tree's common.cpp,
// this gives them back, so that trees written for earlier CUDA compile as they stand.

#include <cuda_runtime_api.h>

#if CUDART_VERSION >= 13000
struct CaffeDeviceProperties : cudaDeviceProp {
  int clockRate;  // in kHz
  int deviceOverlap;
  int kernelExecTimeoutEnabled;
};

inline cudaError_t cudaGetDeviceProperties(CaffeDeviceProperties* properties, int device) {
  cudaError_t error = cudaGetDeviceProperties(static_cast<cudaDeviceProp*>(properties), device);
  if (error == cudaSuccess) {
    properties->deviceOverlap = properties->asyncEngineCount > 0;
    error = cudaDeviceGetAttribute(&properties->clockRate, cudaDevAttrClockRate, device);
  }
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&properties->kernelExecTimeoutEnabled, cudaDevAttrKernelExecTimeout, device);
  }
  return error;
}

#define cudaDeviceProp CaffeDeviceProperties
#endif

#endif  // CAFFE_CUDA13_DEVICE_PROPERTIES_HPP_
