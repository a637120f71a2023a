#ifndef CAFFE_UTIL_CHECK_LABELS_HPP_
#define CAFFE_UTIL_CHECK_LABELS_HPP_

#include <string>

#include "caffe/blob.hpp"

#ifndef CAFFE_FACE_BOTH
#ifdef __CUDACC__
#define CAFFE_FACE_BOTH __host__ __device__ __forceinline__
#else
#define CAFFE_FACE_BOTH inline
#endif
#endif

namespace caffe {

/**
 * @brief The class that a label names, or -1 for a label below 0.
 *
 * Such a sample has no class: a margin leaves its scores alone, and a loss is what it would be without the sample.
 */
template <typename Dtype>
CAFFE_FACE_BOTH int ClassOf(Dtype label) {
  return label < 0 ? -1 : static_cast<int>(label);
}

/**
 * @brief Stops with the layer's name, the sample and its label unless every label is below `classes`. Returns how many
 *        samples have a class.
 *
 * Reads the labels on the host in GPU mode too: there a data layer put them, so that nothing is copied.
 */
template <typename Dtype>
inline int CheckLabels(const std::string& layer, const Blob<Dtype>& labels, int classes) {
  const Dtype* label = labels.cpu_data();
  int labelled = 0;
  for (int i = 0; i < labels.count(); ++i) {
    CHECK(label[i] < classes) << "Layer " << layer << ": label " << label[i] << " of sample " << i
        << " is out of range; expected 0 to " << classes - 1 << ", or one below 0 for a sample without a class";
    labelled += label[i] >= 0;
  }
  return labelled;
}

}  // namespace caffe

#endif  // CAFFE_UTIL_CHECK_LABELS_HPP_
