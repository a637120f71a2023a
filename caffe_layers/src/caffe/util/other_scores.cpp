#include <cmath>
#include <vector>

#include "caffe/util/check_labels.hpp"
#include "caffe/util/other_scores.hpp"

namespace caffe {

template <typename Dtype>
void OtherScoresCPU(const Blob<Dtype>& x, const Blob<Dtype>& label, const Blob<Dtype>* scales, Dtype scale,
    Blob<Dtype>* result) {
  const int rows = label.count();
  const int classes = x.count() / rows;
  vector<int> shape(2, rows);
  shape[0] = OTHER_SCORES_ROWS;
  result->Reshape(shape);
  Dtype* made = result->mutable_cpu_data();
  for (int i = 0; i < rows; ++i) {
    const Dtype* row = x.cpu_data() + static_cast<size_t>(i) * classes;
    const int own = ClassOf(label.cpu_data()[i]);
    const Dtype factor = scales ? scales->cpu_data()[i] : scale;
    int largest = -1;
    for (int j = 0; j < classes && own >= 0; ++j) {
      if (j != own && (largest < 0 || row[j] > row[largest])) {
        largest = j;
      }
    }
    double sum = 0, exponentials = 0, weighted = 0;
    for (int j = 0; j < classes && own >= 0; ++j) {
      if (j != own) {
        const double exponential = std::exp(static_cast<double>(factor) * (row[j] - row[largest]));
        sum += row[j];
        exponentials += exponential;
        weighted += row[j] * exponential;
      }
    }
    made[OWN_SCORE * rows + i] = own < 0 ? Dtype(0) : row[own];
    made[LARGEST_OTHER * rows + i] = largest < 0 ? Dtype(0) : row[largest];
    made[SUM_OF_OTHERS * rows + i] = sum;
    made[EXPONENTIALS * rows + i] = exponentials;
    made[WEIGHTED_SCORES * rows + i] = weighted;
  }
}

template <typename Dtype>
void PutAtLabelsCPU(const Blob<Dtype>& label, const Blob<Dtype>& values, Blob<Dtype>* y) {
  const int rows = label.count();
  const int classes = y->count() / rows;
  for (int i = 0; i < rows; ++i) {
    const int own = ClassOf(label.cpu_data()[i]);
    if (own >= 0) {
      y->mutable_cpu_data()[static_cast<size_t>(i) * classes + own] = values.cpu_data()[i];
    }
  }
}

#define INSTANTIATE_OTHER_SCORES_CPU(Dtype) \
  template void OtherScoresCPU<Dtype>(const Blob<Dtype>& x, const Blob<Dtype>& label, const Blob<Dtype>* scales, \
      Dtype scale, Blob<Dtype>* result); \
  template void PutAtLabelsCPU<Dtype>(const Blob<Dtype>& label, const Blob<Dtype>& values, Blob<Dtype>* y)

INSTANTIATE_OTHER_SCORES_CPU(float);
INSTANTIATE_OTHER_SCORES_CPU(double);

}  // namespace caffe
