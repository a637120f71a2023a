#include <vector>

#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/filler.hpp"
#include "caffe/layer_factory.hpp"
#include "caffe/layers/accuracy_layer.hpp"
#include "caffe/layers/face_accuracy_layer.hpp"
#include "caffe/util/math_functions.hpp"

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

// What becomes of a Forward_gpu in a tree whose AccuracyLayer has no code for the GPU.
template <typename Dtype>
class FaceAccuracyLayerOfOldTree : public FaceAccuracyLayer<Dtype> {
 public:
  explicit FaceAccuracyLayerOfOldTree(const LayerParameter& param) : FaceAccuracyLayer<Dtype>(param) {}

 protected:
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
    Forward_cpu(bottom, top);
  }
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
    caffe_cpu_scale(bottom[0]->count(), Dtype(-1), bottom[0]->cpu_data(), this->negated_.mutable_cpu_data());
    vector<Blob<Dtype>*> negated_bottom(bottom);
    negated_bottom[0] = &this->negated_;
    FaceAccuracyLayer<Dtype>::Forward_cpu(negated_bottom, top);
  }
};

template <typename TypeParam>
class FaceAccuracyLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  FaceAccuracyLayerTest() {
    Caffe::set_random_seed(1701);
    Fill(40, 5, 1, 1);
    bottom_vec_.push_back(&x_);
    bottom_vec_.push_back(&labels_);
    top_vec_.push_back(&top_);
  }

  void Fill(int num, int classes, int height, int width) {
    x_.Reshape(num, classes, height, width);
    FillerParameter filler_param;
    GaussianFiller<Dtype> filler(filler_param);
    filler.Fill(&x_);
    labels_.Reshape(num, 1, height, width);
    for (int i = 0; i < labels_.count(); ++i) {
      labels_.mutable_cpu_data()[i] = caffe_rng_rand() % classes;
    }
  }

  static LayerParameter Param(int top_k) {
    LayerParameter param;
    param.mutable_accuracy_param()->set_top_k(top_k);
    param.mutable_accuracy_param()->set_min_is_better(true);
    return param;
  }

  // Distances without ties: a label counts if fewer than top_k classes are nearer.
  void ExpectAccuracy(int top_k, int ignored) {
    const int classes = x_.shape(1), positions = x_.count(2);
    vector<Dtype> right(classes, 0), all(classes, 0);
    Dtype all_right = 0, samples = 0;
    for (int i = 0; i < labels_.count(); ++i) {
      const int label = static_cast<int>(labels_.cpu_data()[i]);
      if (label == ignored) {
        continue;
      }
      const Dtype* x = x_.cpu_data() + i / positions * classes * positions + i % positions;
      int nearer = 0;
      for (int c = 0; c < classes; ++c) {
        nearer += x[c * positions] < x[label * positions];
      }
      right[label] += nearer < top_k;
      all_right += nearer < top_k;
      ++all[label];
      ++samples;
    }
    EXPECT_NEAR(all_right / samples, top_.cpu_data()[0], 1e-5);
    if (top_vec_.size() > 1) {
      ASSERT_EQ(classes, per_class_.count());
      for (int c = 0; c < classes; ++c) {
        EXPECT_NEAR(all[c] == 0 ? 0 : right[c] / all[c], per_class_.cpu_data()[c], 1e-5);
      }
    }
  }

  Blob<Dtype> x_, labels_, top_, per_class_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(FaceAccuracyLayerTest, TestDtypesAndDevices);

TYPED_TEST(FaceAccuracyLayerTest, TestForward) {
  typedef typename TypeParam::Dtype Dtype;
  for (int top_k = 1; top_k < 4; ++top_k) {
    FaceAccuracyLayer<Dtype> layer(this->Param(top_k));
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    Blob<Dtype> before;
    before.CopyFrom(this->x_, false, true);
    for (int pass = 0; pass < 2; ++pass) {
      layer.Forward(this->bottom_vec_, this->top_vec_);
      this->ExpectAccuracy(top_k, -1);
    }
    for (int i = 0; i < before.count(); ++i) {
      EXPECT_EQ(before.cpu_data()[i], this->x_.cpu_data()[i]);
    }
  }
}

TYPED_TEST(FaceAccuracyLayerTest, TestPerClass) {
  typedef typename TypeParam::Dtype Dtype;
  this->top_vec_.push_back(&this->per_class_);
  FaceAccuracyLayer<Dtype> layer(this->Param(1));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  this->ExpectAccuracy(1, -1);
}

TYPED_TEST(FaceAccuracyLayerTest, TestPositions) {
  typedef typename TypeParam::Dtype Dtype;
  FaceAccuracyLayer<Dtype> layer(this->Param(2));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  const int sizes[][4] = {{4, 5, 3, 2}, {50, 3, 1, 1}, {1, 4, 1, 1}};
  for (int i = 0; i < 3; ++i) {
    this->Fill(sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3]);
    layer.Reshape(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    this->ExpectAccuracy(2, -1);
  }
}

TYPED_TEST(FaceAccuracyLayerTest, TestOneClass) {
  typedef typename TypeParam::Dtype Dtype;
  this->Fill(3, 1, 1, 1);
  FaceAccuracyLayer<Dtype> layer(this->Param(1));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ(1, this->top_.cpu_data()[0]);
}

TYPED_TEST(FaceAccuracyLayerTest, TestIgnoredLabel) {
  typedef typename TypeParam::Dtype Dtype;
  const int ignored[] = {2, -1, 255};
  this->top_vec_.push_back(&this->per_class_);
  for (int i = 0; i < 3; ++i) {
    this->Fill(40, 5, 1, 1);
    for (int n = 0; n < 40; n += 7) {
      this->labels_.mutable_cpu_data()[n] = ignored[i];
    }
    LayerParameter param = this->Param(1);
    param.mutable_accuracy_param()->set_ignore_label(ignored[i]);
    FaceAccuracyLayer<Dtype> layer(param);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    this->ExpectAccuracy(1, ignored[i]);
  }
}

// Ties are the tree's affair.
TYPED_TEST(FaceAccuracyLayerTest, TestAsTheTreesOfNegatedScores) {
  typedef typename TypeParam::Dtype Dtype;
  Blob<Dtype> negated(this->x_.shape()), expected;
  for (int i = 0; i < this->x_.count(); ++i) {
    this->x_.mutable_cpu_data()[i] = caffe_rng_rand() % 4;
    negated.mutable_cpu_data()[i] = -this->x_.cpu_data()[i];
  }
  LayerParameter param = this->Param(2);
  FaceAccuracyLayer<Dtype> layer(param);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  vector<Blob<Dtype>*> bottom_vec(this->bottom_vec_), top_vec(1, &expected);
  bottom_vec[0] = &negated;
  AccuracyLayer<Dtype> trees(param);
  trees.SetUp(bottom_vec, top_vec);
  trees.Forward(bottom_vec, top_vec);
  EXPECT_NEAR(expected.cpu_data()[0], this->top_.cpu_data()[0], 1e-6);
}

TYPED_TEST(FaceAccuracyLayerTest, TestTreeWithoutGPUCode) {
  typedef typename TypeParam::Dtype Dtype;
  FaceAccuracyLayerOfOldTree<Dtype> layer(this->Param(1));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  this->ExpectAccuracy(1, -1);
}

TYPED_TEST(FaceAccuracyLayerTest, TestCreator) {
  typedef typename TypeParam::Dtype Dtype;
  LayerParameter param;
  param.set_type("Accuracy");
  shared_ptr<Layer<Dtype> > layer = LayerRegistry<Dtype>::CreateLayer(param);
  EXPECT_TRUE(dynamic_cast<AccuracyLayer<Dtype>*>(layer.get()) != NULL);
  EXPECT_TRUE(dynamic_cast<FaceAccuracyLayer<Dtype>*>(layer.get()) == NULL);
  param.mutable_accuracy_param()->set_min_is_better(true);
  layer = LayerRegistry<Dtype>::CreateLayer(param);
  EXPECT_TRUE(dynamic_cast<FaceAccuracyLayer<Dtype>*>(layer.get()) != NULL);
  EXPECT_STREQ("Accuracy", layer->type());
}

class FaceAccuracyLayerDeathTest : public CPUDeviceTest<float> {
 protected:
  FaceAccuracyLayerDeathTest() : x_(3, 4, 1, 1), labels_(3, 1, 1, 1) {
    caffe_set(12, 0.f, x_.mutable_cpu_data());
    caffe_set(3, 0.f, labels_.mutable_cpu_data());
    param_.set_name("accuracy");
    param_.mutable_accuracy_param()->set_min_is_better(true);
  }

  void Run(float label, bool backward) {
    labels_.mutable_cpu_data()[1] = label;
    vector<Blob<float>*> bottom_vec(1, &x_), top_vec(1, &top_);
    bottom_vec.push_back(&labels_);
    FaceAccuracyLayer<float> layer(param_);
    layer.SetUp(bottom_vec, top_vec);
    layer.Forward(bottom_vec, top_vec);
    if (backward) {
      layer.Backward(top_vec, vector<bool>(2, true), bottom_vec);
    }
  }

  LayerParameter param_;
  Blob<float> x_, labels_, top_;
};

TEST_F(FaceAccuracyLayerDeathTest, TestRefused) {
  EXPECT_DEATH(Run(4, false), "accuracy: label 4 of sample 1 is out of range; expected 0 to 3");
  EXPECT_DEATH(Run(-1, false), "accuracy: label -1 of sample 1 is out of range; expected 0 to 3");
  EXPECT_DEATH(Run(0, true), "Not [Ii]mplemented");
  param_.mutable_accuracy_param()->set_ignore_label(-1);
  Run(-1, false);
  EXPECT_DEATH(Run(4, false), "accuracy: label 4 of sample 1 is out of range; expected 0 to 3 or the "
      "ignored ignore_label");
  labels_.Reshape(2, 1, 1, 1);
  EXPECT_DEATH(Run(0, false), "Number of labels must match number of predictions");
}

}  // namespace caffe
