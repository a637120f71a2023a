#ifndef CAFFE_UTIL_CHECK_LABELS_HPP_
#define CAFFE_UTIL_CHECK_LABELS_HPP_

#include <string>

#include "caffe/blob.hpp"

namespace caffe {

/**
 * @brief Stops with the layer's name, the sample and its label unless every label is in [0, classes).
 *
 * Reads the labels on the host in GPU mode too: there a data layer put them, so that nothing is copied.
 */
template <typename Dtype>
inline void CheckLabels(const std::string& layer, const Blob<Dtype>& labels, int classes) {
  const Dtype* label = labels.cpu_data();
  for (int i = 0; i < labels.count(); ++i) {
    const int value = static_cast<int>(label[i]);
    CHECK(value >= 0 && value < classes) << "Layer " << layer << ": label " << label[i] << " of sample " << i
        << " is out of range; expected 0 to " << classes - 1;
  }
}

}  // namespace caffe

#endif  // CAFFE_UTIL_CHECK_LABELS_HPP_
