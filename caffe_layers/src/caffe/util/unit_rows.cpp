#include <cmath>

#include "caffe/util/math_functions.hpp"
#include "caffe/util/unit_rows.hpp"

namespace caffe {

template <typename Dtype>
void UnitRowsCPU(int rows, int size, Dtype eps, const Dtype* x, Dtype* y) {
  for (int i = 0; i < rows; ++i) {
    const Dtype* from = x + static_cast<size_t>(i) * size;
    const Dtype scale = Dtype(1) / std::sqrt(caffe_cpu_dot(size, from, from) + eps);
    caffe_cpu_scale(size, scale, from, y + static_cast<size_t>(i) * size);
  }
}

template <typename Dtype>
Blob<Dtype>* UnitRows<Dtype>::Target(Phase phase, Blob<Dtype>* weight) {
  if (phase == TRAIN) {
    unit_ = weight;
  } else {
    buffer_.ReshapeLike(*weight);
    unit_ = &buffer_;
  }
  return unit_;
}

template <typename Dtype>
void UnitRows<Dtype>::Forward_cpu(Phase phase, Dtype eps, Blob<Dtype>* weight) {
  Blob<Dtype>* unit = Target(phase, weight);
  const int rows = weight->num_axes() > 0 ? weight->shape(0) : 1;
  UnitRowsCPU(rows, weight->count() / rows, eps, weight->cpu_data(), unit->mutable_cpu_data());
}

template <typename Dtype>
void UnitRows<Dtype>::Forward_gpu(Phase phase, Dtype eps, Blob<Dtype>* weight) {
#ifdef CPU_ONLY
  NO_GPU;
#else
  Blob<Dtype>* unit = Target(phase, weight);
  const int rows = weight->num_axes() > 0 ? weight->shape(0) : 1;
  UnitRowsGPU(rows, weight->count() / rows, eps, weight->gpu_data(), unit->mutable_gpu_data());
#endif
}

template void UnitRowsCPU<float>(int, int, float, const float*, float*);
template void UnitRowsCPU<double>(int, int, double, const double*, double*);
INSTANTIATE_CLASS(UnitRows);

}  // namespace caffe
