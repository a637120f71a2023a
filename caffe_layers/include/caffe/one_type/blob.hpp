#ifndef CAFFE_ONE_TYPE_BLOB_HPP_
#define CAFFE_ONE_TYPE_BLOB_HPP_

#include <map>
#include <string>
#include <vector>

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe { namespace one_type {

/**
 * @brief A blob of NVCaffe, whose numbers have a type that changes as it is read, seen as the Blob<Dtype> of BVLC Caffe.
 *
 * It holds the blob and nothing else: what is read or written through it is the blob's own, converted to Dtype by
 * NVCaffe where it had another type. Two of them for one blob are the same blob, but have two addresses; a layer gets
 * the same one for the same blob (BlobViews), since sources compare addresses to see that they work in place.
 */
template <typename Dtype>
class Blob {
 public:
  Blob() : blob_(caffe::Blob::create<Dtype>()) {}
  explicit Blob(const std::vector<int>& shape) : blob_(caffe::Blob::create<Dtype>(shape)) {}
  Blob(int num, int channels, int height, int width)
      : blob_(caffe::Blob::create<Dtype>(num, channels, height, width)) {}
  /// Another's blob, which is not copied.
  explicit Blob(const shared_ptr<caffe::Blob>& blob) : blob_(blob) {}
  /// One that lives longer than this.
  explicit Blob(caffe::Blob* blob) : blob_(blob, &Keep) {}

  caffe::Blob* of_tree() const { return blob_.get(); }
  const shared_ptr<caffe::Blob>& shared() const { return blob_; }

  const std::vector<int>& shape() const { return blob_->shape(); }
  int shape(int index) const { return blob_->shape(index); }
  std::string shape_string() const { return blob_->shape_string(); }
  int num_axes() const { return blob_->num_axes(); }
  int count() const { return blob_->count(); }
  int count(int start, int end) const { return blob_->count(start, end); }
  int count(int start) const { return blob_->count(start); }
  int CanonicalAxisIndex(int index) const { return blob_->CanonicalAxisIndex(index); }
  int num() const { return blob_->num(); }
  int channels() const { return blob_->channels(); }
  int height() const { return blob_->height(); }
  int width() const { return blob_->width(); }
  int offset(int n, int c = 0, int h = 0, int w = 0) const { return blob_->offset(n, c, h, w); }
  int offset(const std::vector<int>& indices) const { return blob_->offset(indices); }

  void Reshape(const std::vector<int>& shape) { blob_->Reshape(shape); }
  void Reshape(const BlobShape& shape) { blob_->Reshape(shape); }
  void Reshape(int num, int channels, int height, int width) { blob_->Reshape(num, channels, height, width); }
  void ReshapeLike(const Blob& other) { blob_->Reshape(other.shape()); }

  const Dtype* cpu_data() const { return blob_->template cpu_data<Dtype>(); }
  const Dtype* gpu_data() const { return blob_->template gpu_data<Dtype>(); }
  const Dtype* cpu_diff() const { return blob_->template cpu_diff<Dtype>(); }
  const Dtype* gpu_diff() const { return blob_->template gpu_diff<Dtype>(); }
  Dtype* mutable_cpu_data() { return blob_->template mutable_cpu_data<Dtype>(); }
  Dtype* mutable_gpu_data() { return blob_->template mutable_gpu_data<Dtype>(); }
  Dtype* mutable_cpu_diff() { return blob_->template mutable_cpu_diff<Dtype>(); }
  Dtype* mutable_gpu_diff() { return blob_->template mutable_gpu_diff<Dtype>(); }
  Dtype data_at(int n, int c, int h, int w) const { return cpu_data()[offset(n, c, h, w)]; }
  Dtype diff_at(int n, int c, int h, int w) const { return cpu_diff()[offset(n, c, h, w)]; }
  Dtype data_at(const std::vector<int>& index) const { return cpu_data()[offset(index)]; }
  Dtype diff_at(const std::vector<int>& index) const { return cpu_diff()[offset(index)]; }

  void CopyFrom(const Blob& source, bool copy_diff = false, bool reshape = false) {
    blob_->CopyFrom(*source.blob_, copy_diff, reshape);
  }
  void ShareData(const Blob& other) { blob_->ShareData(*other.blob_); }
  void ShareDiff(const Blob& other) { blob_->ShareDiff(*other.blob_); }
  void FromProto(const BlobProto& proto, bool reshape = true) { blob_->FromProto(proto, reshape); }

 private:
  static void Keep(caffe::Blob*) {}

  Blob(const Blob&);
  Blob& operator=(const Blob&);

  shared_ptr<caffe::Blob> blob_;
};

/// The blobs of NVCaffe that the sources' vectors hold.
template <typename Dtype>
inline std::vector<caffe::Blob*> OfTree(const std::vector<Blob<Dtype>*>& blobs) {
  std::vector<caffe::Blob*> result;
  for (size_t i = 0; i < blobs.size(); ++i) {
    result.push_back(blobs[i]->of_tree());
  }
  return result;
}

/// Gives the same Blob<Dtype> for the same blob of NVCaffe, as long as it lives.
template <typename Dtype>
class BlobViews {
 public:
  std::vector<Blob<Dtype>*> Of(const std::vector<caffe::Blob*>& blobs) {
    std::vector<Blob<Dtype>*> result;
    for (size_t i = 0; i < blobs.size(); ++i) {
      shared_ptr<Blob<Dtype> >& view = views_[blobs[i]];
      if (!view) {
        view.reset(new Blob<Dtype>(blobs[i]));
      }
      result.push_back(view.get());
    }
    return result;
  }

 private:
  std::map<caffe::Blob*, shared_ptr<Blob<Dtype> > > views_;
};

} }  // namespace one_type, caffe

#endif  // CAFFE_ONE_TYPE_BLOB_HPP_
