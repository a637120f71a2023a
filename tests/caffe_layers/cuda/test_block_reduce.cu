// The sums and maxima of block_reduce.cuh, for blocks of one warp to 32.

#include <vector>

#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/util/block_reduce.cuh"

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

// A row a block, as in the layers; twice, so that the second call comes while others may still read the first's result.
template <typename Dtype>
__global__ void BlockSums(const int rows, const int size, const Dtype* x, Dtype* sums) {
  for (int row = blockIdx.x; row < rows; row += gridDim.x) {
    Dtype sum = 0, squares = 0;
    for (int i = threadIdx.x; i < size; i += blockDim.x) {
      sum += x[row * size + i];
      squares += x[row * size + i] * x[row * size + i];
    }
    sum = BlockSum(sum);
    squares = BlockSum(squares);
    // Every thread has both.
    for (int i = threadIdx.x; i < size; i += blockDim.x) {
      sums[(row * size + i) * 2] = sum;
      sums[(row * size + i) * 2 + 1] = squares;
    }
  }
}

template <typename Dtype>
__global__ void BlockMaxima(const int rows, const int size, const Dtype* x, Dtype* maxima, int* places) {
  for (int row = blockIdx.x; row < rows; row += gridDim.x) {
    Dtype best = -1000;
    int at = size;
    for (int i = threadIdx.x; i < size; i += blockDim.x) {
      if (x[row * size + i] > best) {
        best = x[row * size + i];
        at = i;
      }
    }
    BlockArgMax(&best, &at);
    for (int i = threadIdx.x; i < size; i += blockDim.x) {
      maxima[row * size + i] = best;
      places[row * size + i] = at;
    }
  }
}

// In every thread what its lane has in all warps of the block, added; twice, as above.
template <typename Dtype>
__global__ void SumsAcrossWarps(const Dtype* x, Dtype* sums) {
  const Dtype value = x[blockIdx.x * blockDim.x + threadIdx.x];
  const Dtype sum = SumAcrossWarps(value);
  sums[2 * (blockIdx.x * blockDim.x + threadIdx.x)] = sum;
  sums[2 * (blockIdx.x * blockDim.x + threadIdx.x) + 1] = SumAcrossWarps(value * value);
}

const int kCases = 8;
const int kThreads[kCases] = {32, 64, 96, 128, 256, 480, 512, 1024};

template <typename Dtype>
class BlockReduceTest : public GPUDeviceTest<Dtype> {
 protected:
  // Small whole numbers, so that sums are exact and the largest one occurs more than once.
  void Fill(int rows, int size) {
    x_.Reshape(vector<int>(1, rows * size));
    unsigned int state = rows * 1000 + size;
    for (int i = 0; i < x_.count(); ++i) {
      state = state * 1664525u + 1013904223u;
      x_.mutable_cpu_data()[i] = static_cast<int>(state >> 24) % 15 - 7;
    }
  }

  Blob<Dtype> x_, result_;
  Blob<int> places_;
};

TYPED_TEST_CASE(BlockReduceTest, TestDtypes);

TYPED_TEST(BlockReduceTest, TestSum) {
  typedef TypeParam Dtype;
  const int kRows = 5, kBlocks = 2;
  for (int t = 0; t < kCases; ++t) {
    const int threads = kThreads[t];
    const int sizes[] = {1, threads - 1, threads + 7};
    for (int s = 0; s < 3; ++s) {
      const int size = sizes[s];
      this->Fill(kRows, size);
      this->result_.Reshape(vector<int>(1, kRows * size * 2));
      // NOLINT_NEXT_LINE(whitespace/operators)
      BlockSums<Dtype><<<kBlocks, threads>>>(kRows, size, this->x_.gpu_data(), this->result_.mutable_gpu_data());
      CUDA_POST_KERNEL_CHECK;
      for (int row = 0; row < kRows; ++row) {
        Dtype sum = 0, squares = 0;
        for (int i = 0; i < size; ++i) {
          const Dtype x = this->x_.cpu_data()[row * size + i];
          sum += x;
          squares += x * x;
        }
        for (int i = 0; i < size; ++i) {
          ASSERT_EQ(sum, this->result_.cpu_data()[(row * size + i) * 2]) << threads << " threads, size " << size;
          ASSERT_EQ(squares, this->result_.cpu_data()[(row * size + i) * 2 + 1]) << threads << " threads";
        }
      }
    }
  }
}

TYPED_TEST(BlockReduceTest, TestSumAcrossWarps) {
  typedef TypeParam Dtype;
  const int kBlocks = 3;
  for (int warps = 1; warps <= 8; ++warps) {
    const int threads = warps * CAFFE_FACE_WARP;
    this->Fill(kBlocks, threads);
    this->result_.Reshape(vector<int>(1, 2 * kBlocks * threads));
    // NOLINT_NEXT_LINE(whitespace/operators)
    SumsAcrossWarps<Dtype><<<kBlocks, threads>>>(this->x_.gpu_data(), this->result_.mutable_gpu_data());
    CUDA_POST_KERNEL_CHECK;
    for (int i = 0; i < kBlocks * threads; ++i) {
      Dtype sum = 0, squares = 0;
      for (int j = i / threads * threads + i % CAFFE_FACE_WARP; j < (i / threads + 1) * threads; j += CAFFE_FACE_WARP) {
        const Dtype x = this->x_.cpu_data()[j];
        sum += x;
        squares += x * x;
      }
      ASSERT_EQ(sum, this->result_.cpu_data()[2 * i]) << warps << " warps, thread " << i;
      ASSERT_EQ(squares, this->result_.cpu_data()[2 * i + 1]) << warps << " warps, thread " << i;
    }
  }
}

TYPED_TEST(BlockReduceTest, TestArgMax) {
  typedef TypeParam Dtype;
  const int kRows = 5, kBlocks = 2;
  for (int t = 0; t < kCases; ++t) {
    const int threads = kThreads[t];
    const int sizes[] = {1, threads - 1, threads + 7};
    for (int s = 0; s < 3; ++s) {
      const int size = sizes[s];
      this->Fill(kRows, size);
      this->result_.Reshape(vector<int>(1, kRows * size));
      this->places_.Reshape(vector<int>(1, kRows * size));
      // NOLINT_NEXT_LINE(whitespace/operators)
      BlockMaxima<Dtype><<<kBlocks, threads>>>(kRows, size, this->x_.gpu_data(), this->result_.mutable_gpu_data(),
          this->places_.mutable_gpu_data());
      CUDA_POST_KERNEL_CHECK;
      for (int row = 0; row < kRows; ++row) {
        const Dtype* x = this->x_.cpu_data() + row * size;
        int at = 0;
        for (int i = 1; i < size; ++i) {
          at = x[i] > x[at] ? i : at;  // the first of equal ones
        }
        for (int i = 0; i < size; ++i) {
          ASSERT_EQ(x[at], this->result_.cpu_data()[row * size + i]) << threads << " threads, size " << size;
          ASSERT_EQ(at, this->places_.cpu_data()[row * size + i]) << threads << " threads, size " << size;
        }
      }
    }
  }
}

}  // namespace caffe
