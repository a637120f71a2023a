#ifndef CAFFE_NOISE_TOLERANT_FR_LAYER_HPP_
#define CAFFE_NOISE_TOLERANT_FR_LAYER_HPP_

#include <deque>
#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

/**
 * @brief A weight for every sample, from where its cosine stands in the distribution of the last batches' ones: it
 *        leaves out samples that look mislabelled. Hu et al. 2019 (Noise-tolerant paradigm); huangyangyu/NoiseFace.
 *
 * bottom 0: x (N, ...), the scores that the loss gets
 * bottom 1: cosines (N, C), without a margin
 * bottom 2: the labels, N numbers; a sample with a label below 0 has the weight 1 and is not counted
 * bottom 3 (optional): which labels are noise, N numbers; the published layer prints statistics of it, nothing more
 * top 0: y, of the shape of x: w_i x_i; it may be bottom 0 itself
 *
 * noise_tolerant_fr_param:
 * - slide_batch_num (1000): the distribution is that of the labels' cosines in so many batches, smoothed over 5 bins.
 * - bins (200) over value_low (-1) to value_high (1)
 * - start_iter (1): the first pass that weighs, and at least slide_batch_num.
 * - shield_forward (false): y is x; the gradient is weighed only.
 * - func (AUTO_FIT): there is no other. debug, debug_prefix: of no effect.
 *
 * The ends l and r of the distribution (0.5 % beyond each) and its left- and rightmost peaks p and q move a bin a pass.
 * With a the cosine of r within [0, 1] and b = 2 - 1 / (1 + e^(5 - 20a)) - 1 / (1 + e^(20a - 15)), a sample in bin k
 * has the weight [a < 0.5] b + (1 - b) softplus(10 (k - p) / (r - p)) / softplus(10), at most 1 for the quotient, plus
 * [a > 0.5] b exp(-(k - q)^2 / 2 d^2) with d the distance of q to the end on that side, over 2.576. Where l is not left
 * of r, y is x and the gradient 0.
 *
 * Backward: w_i g_i, with w a constant. It acts in TRAIN; TEST passes x through, and looks at no label. Snapshots do
 * not hold the distribution.
 */
template <typename Dtype>
class NoiseTolerantFRLayer : public Layer<Dtype> {
 public:
  explicit NoiseTolerantFRLayer(const LayerParameter& param) : Layer<Dtype>(param), pass_(0), left_(-1), left_peak_(-1),
      right_peak_(-1), right_(-1) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "NoiseTolerantFR"; }
  virtual inline int MinBottomBlobs() const { return 3; }
  virtual inline int MaxBottomBlobs() const { return 4; }
  virtual inline int ExactNumTopBlobs() const { return 1; }
  virtual inline bool AllowForceBackward(const int bottom_index) const { return bottom_index == 0; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);
  virtual void Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);

  /// Takes the labels' cosines (N) into the distribution, and fills weights_ for both directions.
  void NextWeights(const Dtype* label, const Dtype* cosines);
  int BinOf(Dtype cosine) const;
  /// The ends and peaks of the smoothed distribution, a bin nearer; false where there is nothing between its ends.
  bool MoveEnds(const vector<double>& smooth, const vector<double>& below);
  double WeightOf(int bin) const;

  int N_, K_, C_;
  int bins_, slide_, start_;
  double low_, high_;
  int pass_;
  std::deque<int> window_;  // bins, or -1 of a sample without a class
  vector<int> counts_;  // of each bin
  int left_, left_peak_, right_peak_, right_;  // -1 before the first pass that weighs
  Blob<Dtype> weights_;  // (2, N), made by Forward: of x, of the gradient
  Blob<Dtype> cosines_;  // (N), of the labels
};

}  // namespace caffe

#endif  // CAFFE_NOISE_TOLERANT_FR_LAYER_HPP_
