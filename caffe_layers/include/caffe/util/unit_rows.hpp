#ifndef CAFFE_UTIL_UNIT_ROWS_HPP_
#define CAFFE_UTIL_UNIT_ROWS_HPP_

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

/// @brief y = x / sqrt(sum x^2 + eps) for each of `rows` rows of `size` numbers; y may be x.
template <typename Dtype>
void UnitRowsCPU(int rows, int size, Dtype eps, const Dtype* x, Dtype* y);

#ifndef CPU_ONLY
template <typename Dtype>
void UnitRowsGPU(int rows, int size, Dtype eps, const Dtype* x, Dtype* y);
#endif

/**
 * @brief The weight (rows, size) with rows of unit length, as a layer with `normalize` multiplies by it.
 *
 * In the TRAIN phase the weight itself becomes that, as in the NormFace fork: its published nets train with
 * lr_mult 100, and momentum alone would let the rows grow and the steps shrink. In any other phase the weight
 * stays as it is (there the fork changes it too, so that looking at a net alters it) and the rows are put into
 * a buffer.
 */
template <typename Dtype>
class UnitRows {
 public:
  UnitRows() : unit_(NULL) {}
  /// To be called in every Forward; `rows` is the weight's first axis, or 1 if it has none.
  void Forward_cpu(Phase phase, Dtype eps, Blob<Dtype>* weight);
  void Forward_gpu(Phase phase, Dtype eps, Blob<Dtype>* weight);
  /// What the last Forward made.
  const Blob<Dtype>& unit() const { return *CHECK_NOTNULL(unit_); }

 private:
  Blob<Dtype>* Target(Phase phase, Blob<Dtype>* weight);

  Blob<Dtype> buffer_;
  Blob<Dtype>* unit_;
};

}  // namespace caffe

#endif  // CAFFE_UTIL_UNIT_ROWS_HPP_
