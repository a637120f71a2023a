#ifndef CAFFE_UTIL_OTHER_SCORES_HPP_
#define CAFFE_UTIL_OTHER_SCORES_HPP_

#include "caffe/blob.hpp"
#include "caffe/common.hpp"

namespace caffe {

/// What is known of a sample's scores: rows of the blob that OtherScores fills.
enum OtherScoresRow {
  OWN_SCORE,  // the label's
  LARGEST_OTHER,
  SUM_OF_OTHERS,
  EXPONENTIALS,  // of the others, of scale (x - the largest)
  WEIGHTED_SCORES,  // of the others, x times that
  OTHER_SCORES_ROWS
};

/**
 * @brief Fills `result` (OTHER_SCORES_ROWS, N) for scores x (N, C); of a sample with a label below 0 with 0.
 *
 * The scale is that of the sample in `scales` (N), or the one number where that is NULL.
 */
template <typename Dtype>
void OtherScoresCPU(const Blob<Dtype>& x, const Blob<Dtype>& label, const Blob<Dtype>* scales, Dtype scale,
    Blob<Dtype>* result);

/// Puts values (N) in the place of the labels' scores of y (N, C); a sample with a label below 0 stays.
template <typename Dtype>
void PutAtLabelsCPU(const Blob<Dtype>& label, const Blob<Dtype>& values, Blob<Dtype>* y);

#ifndef CPU_ONLY
template <typename Dtype>
void OtherScoresGPU(const Blob<Dtype>& x, const Blob<Dtype>& label, const Blob<Dtype>* scales, Dtype scale,
    Blob<Dtype>* result);

template <typename Dtype>
void PutAtLabelsGPU(const Blob<Dtype>& label, const Blob<Dtype>& values, Blob<Dtype>* y);
#endif

}  // namespace caffe

#endif  // CAFFE_UTIL_OTHER_SCORES_HPP_
