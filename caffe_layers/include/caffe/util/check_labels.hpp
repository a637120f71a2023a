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
 * Reads the labels on the host in GPU mode too. A data layer of today's Caffe hands them over on the GPU: then the first
 * layer to ask in an iteration copies N numbers back and waits for them, and the layers behind it, whose labels are the
 * same blob or a Split's share of it, find the copy. Net::Forward waits for the loss in every iteration in any case.
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
