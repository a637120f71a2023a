// The emulation itself: right kernels give the same in every order, and what is wrong is noticed.

#include <cublas_v2.h>
#include <curand.h>

#include <cmath>
#include <vector>

#include "gtest/gtest.h"

namespace {

const char* const kOrders[] = {"forward", "reverse", "1", "2", "3"};

/// Numbers in device memory.
template <typename Number>
class Device {
 public:
  explicit Device(const std::vector<Number>& numbers) : size_(numbers.size()), data_(NULL) {
    EXPECT_EQ(cudaSuccess, cudaMalloc(&data_, size_ * sizeof(Number)));
    EXPECT_EQ(cudaSuccess, cudaMemcpy(data_, numbers.data(), size_ * sizeof(Number), cudaMemcpyHostToDevice));
  }
  ~Device() { cudaFree(data_); }
  Number* data() { return data_; }
  std::vector<Number> get() const {
    std::vector<Number> numbers(size_);
    EXPECT_EQ(cudaSuccess, cudaMemcpy(numbers.data(), data_, size_ * sizeof(Number), cudaMemcpyDeviceToHost));
    return numbers;
  }

 private:
  size_t size_;
  Number* data_;
};

std::vector<float> Count(int size) {
  std::vector<float> numbers(size);
  for (int i = 0; i < size; ++i) {
    numbers[i] = i;
  }
  return numbers;
}

class EmulationTest : public ::testing::Test {
 protected:
  ~EmulationTest() {
    emulated_cuda::set_order("forward");
    cudaGetLastError();
  }
};

typedef EmulationTest EmulationDeathTest;

// ---- Indices and launches

__global__ void Indices(unsigned int* out) {
  const unsigned int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] +=
      threadIdx.x + 10 * threadIdx.y + 100 * threadIdx.z + 1000 * blockIdx.x + 10000 * blockIdx.y + 100000 * blockIdx.z;
}

TEST_F(EmulationTest, EveryThreadRunsOnce) {
  for (int order = 0; order < 5; ++order) {
    emulated_cuda::set_order(kOrders[order]);
    Device<unsigned int> out(std::vector<unsigned int>(2 * 3 * 4 * 5 * 6 * 7, 0));
    Indices<<<dim3(2, 3, 4), dim3(5, 6, 7)>>>(out.data());
    const std::vector<unsigned int> found = out.get();
    unsigned int i = 0;
    for (int bz = 0; bz < 4; ++bz) {
      for (int by = 0; by < 3; ++by) {
        for (int bx = 0; bx < 2; ++bx) {
          for (int tz = 0; tz < 7; ++tz) {
            for (int ty = 0; ty < 6; ++ty) {
              for (int tx = 0; tx < 5; ++tx) {
                ASSERT_EQ(tx + 10u * ty + 100 * tz + 1000 * bx + 10000 * by + 100000 * bz, found[i++]);
              }
            }
          }
        }
      }
    }
  }
}

template <typename A, typename B>
__global__ void Add(A a, B b, const float* none, A* out) {
  *out = a + b + (none ? 1000 : 0);
}

TEST_F(EmulationTest, ArgumentsAreConvertedAsInACall) {
  Device<double> out(std::vector<double>(1));
  Add<double, int><<<1, 1>>>(1, 2.9, NULL, out.data());  // 2.9 becomes an int
  EXPECT_EQ(3, out.get()[0]);
  float* const none = NULL;
  Add<double><<<1, 1>>>(1.5, 2.5f, none, out.data());
  EXPECT_EQ(4, out.get()[0]);
  Add  // comments and lines, as Caffe has them: <<<
      <<<1,  // NOLINT_NEXT_LINE(whitespace/operators)
      (1 > 0 ? 1 : 2)>>>(2.5, 2.5f, none, out.data());
  EXPECT_EQ(5, out.get()[0]);
}

__global__ void Fill(int count, float value, float* out) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += blockDim.x * gridDim.x) {
    out[i] = value;
  }
}

TEST_F(EmulationTest, ImpossibleLaunchesAreErrorsAndDoNotRun) {
  Device<float> out(std::vector<float>(1, 7));
  const dim3 grids[] = {dim3(0), dim3(1), dim3(1, 65536), dim3(1)};
  const dim3 blocks[] = {dim3(1), dim3(1025), dim3(1), dim3(1, 1, 65)};
  for (int i = 0; i < 4; ++i) {
    Fill<<<grids[i], blocks[i]>>>(1, 1, out.data());
    EXPECT_EQ(cudaErrorInvalidConfiguration, cudaPeekAtLastError());
    EXPECT_EQ(cudaErrorInvalidConfiguration, cudaGetLastError());
    EXPECT_EQ(cudaSuccess, cudaGetLastError());
  }
  Fill<<<1, 1, (48 << 10) + 1>>>(1, 1, out.data());
  EXPECT_EQ(cudaErrorInvalidValue, cudaGetLastError());
  EXPECT_EQ(7, out.get()[0]);
  Fill<<<1, 1024, 48 << 10>>>(1, 1, out.data());
  EXPECT_EQ(cudaSuccess, cudaGetLastError());
  EXPECT_EQ(1, out.get()[0]);
}

// ---- Shared memory and barriers

// Turns blocks of blockDim.x numbers round, `rounds` times.
template <bool kFirstBarrier, bool kSecondBarrier>
__global__ void Reverse(int rounds, float* x) {
  __shared__ float shared[256];
  for (int round = 0; round < rounds; ++round) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    shared[threadIdx.x] = x[i];
    if (kFirstBarrier) {
      __syncthreads();
    }
    x[i] = shared[blockDim.x - 1 - threadIdx.x];
    if (kSecondBarrier) {
      __syncthreads();
    }
  }
}

template <bool kFirstBarrier, bool kSecondBarrier>
int OrdersThatAreRight(int rounds) {
  int right = 0;
  for (int order = 0; order < 5; ++order) {
    emulated_cuda::set_order(kOrders[order]);
    Device<float> x(Count(512));
    Reverse<kFirstBarrier, kSecondBarrier><<<2, 256>>>(rounds, x.data());
    const std::vector<float> found = x.get();
    bool same = true;
    for (int i = 0; i < 512; ++i) {
      same = same && found[i] == (rounds % 2 ? i / 256 * 256 + 255 - i % 256 : i);
    }
    right += same;
  }
  return right;
}

TEST_F(EmulationTest, BarriersHold) {
  EXPECT_EQ(5, (OrdersThatAreRight<true, true>(1)));
  EXPECT_EQ(5, (OrdersThatAreRight<true, true>(3)));
  EXPECT_EQ(5, (OrdersThatAreRight<true, false>(1)));
}

TEST_F(EmulationTest, AMissingBarrierShows) {
  EXPECT_EQ(0, (OrdersThatAreRight<false, true>(1)));  // what another thread should have written is NaN
  EXPECT_EQ(0, (OrdersThatAreRight<true, false>(3)));  // a thread that runs ahead overwrites what another has to read
}

// The sum of a block, without a barrier between reading the last call's and writing this one's.
__device__ float SumWithoutFirstBarrier(float value) {
  __shared__ float sums[32];
  for (int offset = 16; offset > 0; offset /= 2) {
    value += __shfl_down_sync(0xffffffffu, value, offset);
  }
  if (threadIdx.x % 32 == 0) {
    sums[threadIdx.x / 32] = value;
  }
  __syncthreads();
  float sum = 0;
  for (int i = 0; i < blockDim.x / 32; ++i) {
    sum += sums[i];
  }
  return sum;
}

__global__ void TwoSums(float* out) {
  const float first = SumWithoutFirstBarrier(1);
  const float second = SumWithoutFirstBarrier(threadIdx.x);
  out[threadIdx.x] = first + second;
}

TEST_F(EmulationTest, AMissingBarrierBetweenTwoCallsShows) {
  for (int order = 0; order < 5; ++order) {
    emulated_cuda::set_order(kOrders[order]);
    Device<float> out(std::vector<float>(128, 0));
    TwoSums<<<1, 128>>>(out.data());
    EXPECT_NE(std::vector<float>(128, 128 + 127 * 64), out.get()) << kOrders[order];
  }
}

__global__ void ReadUnwritten(float* out) {
  extern __shared__ __align__(8) float dynamic[];
  __shared__ float one, several[3][2];
  out[blockIdx.x * 3] = one;
  out[blockIdx.x * 3 + 1] = several[2][1];
  out[blockIdx.x * 3 + 2] = dynamic[3];
  one = several[2][1] = dynamic[3] = 1;
}

TEST_F(EmulationTest, UnwrittenMemoryIsNaN) {
  Device<float> out(std::vector<float>(6, 0));
  ReadUnwritten<<<2, 1, 16>>>(out.data());
  double* fresh;
  cudaMalloc(&fresh, sizeof(double));
  double number;
  cudaMemcpy(&number, fresh, sizeof(number), cudaMemcpyDeviceToHost);
  cudaFree(fresh);
  EXPECT_TRUE(std::isnan(number));
  for (int i = 0; i < 6; ++i) {
    EXPECT_TRUE(std::isnan(out.get()[i])) << i;
  }
}

__global__ void Diverge(int kind, float* out) {
  extern __shared__ float dynamic[];
  const int i = threadIdx.x;
  switch (kind) {
    case 0:  // some never come to the barrier
      if (i >= 48) {
        return;
      }
      __syncthreads();
      break;
    case 1:  // two barriers
      if (i < 32) {
        __syncthreads();
      } else {
        __syncthreads();
      }
      break;
    case 2:  // half a warp shuffles
      if (i < 48) {
        out[i] = __shfl_xor_sync(0xffffffffu, out[i], 1);
      }
      __syncthreads();
      break;
    case 3:  // a lane that is not in the mask is read
      if (i < 16) {
        out[i] = __shfl_down_sync(0x0000ffffu, out[i], 8);
      }
      break;
    case 4:  // a lane that has returned is read
      if (i >= 40) {
        return;
      }
      out[i] = __shfl_down_sync(0xffffffffu, out[i], 4);
      break;
    case 5:  // not named in its own mask
      __syncwarp(1);
      break;
    case 6:
      out[-1] = 0;
      break;
    case 7:
      out[64] = 0;
      break;
    case 8:
      *reinterpret_cast<float*>(i) = 0;
      break;
    case 9:
      dynamic[4] = 0;
      break;
    case 10:
      Fill<<<1, 1>>>(1, 1, out);
      break;
  }
}

TEST_F(EmulationDeathTest, DivergedThreadsAreReported) {
  const char* const messages[] = {
    "diverged and wait for ever: threads 0-47 at __syncthreads .*test_emulation.cu:[0-9]+.*, threads 48-63 have "
        "returned.*\n.*in kernel Diverge.int, float.*launched at .*test_emulation.cu:[0-9]+.*block .0, 0, 0",
    "diverged to different barriers: threads 0-31 at __syncthreads .*threads 32-63 at __syncthreads ",
    "diverged and wait for ever: threads 0-31 at __syncthreads .*threads 32-47 at __shfl_xor_sync .*mask ffffffff",
    "lane 8 of warp 0 reads lane 16 in __shfl_down_sync .*not in the mask 0000ffff",
    "lane 4 of warp 1 reads lane 8 in __shfl_down_sync .*has returned",
    "__syncwarp .*the mask 00000001 does not name the calling lane"
  };
  for (int kind = 0; kind < 6; ++kind) {
    Device<float> out(Count(64));
    EXPECT_DEATH((Diverge<<<1, 64, 16>>>(kind, out.data())), messages[kind]);
  }
}

TEST_F(EmulationDeathTest, MemoryOutOfRangeIsReported) {
  Device<float> out(Count(64));
  EXPECT_DEATH((Diverge<<<1, 64, 16>>>(6, out.data())), "wrote out of range: at byte -4 of an allocation of 256 bytes");
  EXPECT_DEATH((Diverge<<<1, 64, 16>>>(7, out.data())), "wrote out of range: at byte 256 of an allocation of 256 bytes");
  EXPECT_DEATH((Diverge<<<1, 64, 16>>>(8, out.data())), "no memory at .*\n.*in kernel Diverge.*thread .0, 0, 0. of");
  EXPECT_DEATH((Diverge<<<1, 64, 16>>>(9, out.data())), "behind the 16 bytes of dynamic shared memory");
  EXPECT_DEATH((Diverge<<<1, 64, 16>>>(10, out.data())), "a kernel launches Fill");
}

// ---- Host and device memory

TEST_F(EmulationDeathTest, HostAndDevicePointersAreToldApart) {
  float host[4] = {};
  Device<float> out(Count(4));
  EXPECT_DEATH((Fill<<<1, 1>>>(1, 1, host)), "argument 3 of kernel Fill, launched at .*:[0-9]+, is a pointer to host");
  float* freed;
  cudaMalloc(&freed, 4);
  cudaFree(freed);
  EXPECT_DEATH((Fill<<<1, 1>>>(1, 1, freed)), "argument 3 of kernel Fill.*points to device memory that is not alloc");
  EXPECT_DEATH(host[0] = out.data()[1], "host code touches device memory at .*left in its allocation: 12");
  EXPECT_DEATH(out.data()[1] = 0, "host code touches device memory");
  EXPECT_DEATH(cudaMemcpy(host, out.data() + 2, 12, cudaMemcpyDefault), "source .* 12 bytes, .*ends after 8");
  EXPECT_DEATH(cudaMemset(host, 0, 4), "cudaMemset's target .* is not device memory");
  EXPECT_EQ(cudaErrorInvalidValue, cudaMemcpy(host, out.data(), 4, cudaMemcpyHostToDevice));
  EXPECT_EQ(cudaErrorInvalidValue, cudaGetLastError());
  EXPECT_EQ(Count(4), out.get());
}

struct View {
  float* data;
};

__global__ void FillView(View view) { view.data[1] = 1; }

TEST_F(EmulationDeathTest, PointersWithinArgumentsAreRefused) {
  Device<float> out(Count(4));
  const View view = {out.data()};
  EXPECT_DEATH((FillView<<<1, 1>>>(view)), "a kernel, by a pointer that was no argument .*: 12.\n.*in kernel FillView");
}

// ---- Within a warp

__global__ void Shuffles(int* out) {
  const int lane = threadIdx.x % 32;
  int* row = out + threadIdx.x * 8;
  row[0] = __shfl_sync(0xffffffffu, lane, 5);
  row[1] = __shfl_sync(0xffffffffu, lane, 5, 4);
  row[2] = __shfl_up_sync(0xffffffffu, lane, 3, 8);
  row[3] = __shfl_down_sync(0xffffffffu, lane, 3, 8);
  row[4] = __shfl_xor_sync(0xffffffffu, lane, 6);
  row[5] = __ballot_sync(0xffffffffu, lane % 3 == 0);
  row[6] = __any_sync(0xffffffffu, threadIdx.x == 40) + 2 * __all_sync(0xffffffffu, threadIdx.x < 32);
  row[7] = __syncthreads_count(lane == 0) + 10 * __syncthreads_or(threadIdx.x == 3) + 20 * __syncthreads_and(lane < 31);
}

TEST_F(EmulationTest, WarpsExchange) {
  for (int order = 0; order < 5; ++order) {
    emulated_cuda::set_order(kOrders[order]);
    Device<int> out(std::vector<int>(64 * 8));
    Shuffles<<<1, 64>>>(out.data());
    const std::vector<int> found = out.get();
    for (int i = 0; i < 64; ++i) {
      const int lane = i % 32, *row = found.data() + i * 8;
      EXPECT_EQ(5, row[0]);
      EXPECT_EQ(lane / 4 * 4 + 1, row[1]);
      EXPECT_EQ(lane % 8 < 3 ? lane : lane - 3, row[2]);
      EXPECT_EQ(lane % 8 > 4 ? lane : lane + 3, row[3]);
      EXPECT_EQ(lane ^ 6, row[4]);
      EXPECT_EQ(0x49249249, row[5]);
      EXPECT_EQ(i < 32 ? 2 : 1, row[6]);
      EXPECT_EQ(2 + 10, row[7]);
    }
  }
}

__global__ void HalfWarps(double* out) {
  const unsigned int mask = threadIdx.x % 32 < 16 ? 0x0000ffffu : 0xffff0000u;
  double value = threadIdx.x;
  if (threadIdx.x % 32 < 16) {
    value = __shfl_sync(mask, value, 3);
  } else {
    value = __shfl_sync(mask, value, 20);
  }
  out[threadIdx.x] = value;
}

TEST_F(EmulationTest, PartsOfAWarpExchangeApart) {
  Device<double> out(std::vector<double>(32));
  HalfWarps<<<1, 32>>>(out.data());
  for (int i = 0; i < 32; ++i) {
    EXPECT_EQ(i < 16 ? 3 : 20, out.get()[i]);
  }
}

__global__ void Atomics(int* ints, double* doubles, unsigned long long* maximum) {
  atomicAdd(ints, 2);
  atomicMax(ints + 1, static_cast<int>(threadIdx.x));
  atomicMin(ints + 2, -static_cast<int>(threadIdx.x));
  if (atomicCAS(ints + 3, 0, 1) == 0) {
    atomicAdd(ints + 4, 1);
  }
  atomicAdd(doubles, 0.5);
  atomicMax(maximum, static_cast<unsigned long long>(threadIdx.x));
}

TEST_F(EmulationTest, Atomics) {
  Device<int> ints(std::vector<int>(5, 0));
  Device<double> doubles(std::vector<double>(1, 0));
  Device<unsigned long long> maximum(std::vector<unsigned long long>(1, 0));
  Atomics<<<3, 100>>>(ints.data(), doubles.data(), maximum.data());
  const int expected[] = {600, 99, -99, 1, 1};
  EXPECT_EQ(std::vector<int>(expected, expected + 5), ints.get());
  EXPECT_EQ(150, doubles.get()[0]);
  EXPECT_EQ(99u, maximum.get()[0]);
}

// ---- Libraries

TEST_F(EmulationTest, MatrixProducts) {
  const int m = 3, n = 4, k = 5;
  cublasHandle_t handle;
  cublasCreate(&handle);
  for (int ta = 0; ta < 2; ++ta) {
    for (int tb = 0; tb < 2; ++tb) {
      const std::vector<float> a = Count(m * k), b = Count(k * n);
      Device<float> da(a), db(b), c(std::vector<float>(m * n, NAN));
      const float alpha = 2, zero = 0, one = 1;
      const cublasOperation_t op_a = ta ? CUBLAS_OP_T : CUBLAS_OP_N, op_b = tb ? CUBLAS_OP_T : CUBLAS_OP_N;
      const int lda = ta ? k : m, ldb = tb ? n : k;
      // With a factor of 0 C is not read, NaN or not.
      EXPECT_EQ(CUBLAS_STATUS_SUCCESS, cublasSgemm(handle, op_a, op_b, m, n, k, &alpha, da.data(), lda, db.data(), ldb,
          &zero, c.data(), m));
      EXPECT_EQ(CUBLAS_STATUS_SUCCESS, cublasSgemm(handle, op_a, op_b, m, n, k, &alpha, da.data(), lda, db.data(), ldb,
          &one, c.data(), m));
      EXPECT_EQ(CUBLAS_STATUS_INVALID_VALUE, cublasSgemm(handle, op_a, op_b, m, n, k, &alpha, da.data(), lda - 1,
          db.data(), ldb, &one, c.data(), m));
      for (int i = 0; i < m; ++i) {
        for (int j = 0; j < n; ++j) {
          float sum = 0;
          for (int t = 0; t < k; ++t) {
            sum += a[ta ? i * k + t : t * m + i] * b[tb ? t * n + j : j * k + t];
          }
          EXPECT_EQ(4 * sum, c.get()[j * m + i]);
        }
      }
    }
  }
  cublasDestroy(handle);
}

TEST_F(EmulationTest, Vectors) {
  cublasHandle_t handle;
  cublasCreate(&handle);
  Device<double> a(std::vector<double>(6, 2)), x(std::vector<double>(3, 3)), y(std::vector<double>(3, NAN));
  const double two = 2, zero = 0;
  double result;
  EXPECT_EQ(CUBLAS_STATUS_SUCCESS, cublasDgemv(handle, CUBLAS_OP_N, 2, 3, &two, a.data(), 2, x.data(), 1, &zero,
      y.data(), 1));
  EXPECT_EQ(36, y.get()[0]);
  EXPECT_EQ(36, y.get()[1]);
  EXPECT_TRUE(std::isnan(y.get()[2]));
  EXPECT_EQ(CUBLAS_STATUS_SUCCESS, cublasDaxpy(handle, 2, &two, x.data(), 1, y.data(), 1));
  EXPECT_EQ(42, y.get()[1]);
  EXPECT_EQ(CUBLAS_STATUS_SUCCESS, cublasDdot(handle, 2, x.data(), 1, y.data(), 1, &result));
  EXPECT_EQ(252, result);
  EXPECT_EQ(CUBLAS_STATUS_SUCCESS, cublasDscal(handle, 3, &zero, y.data(), 1));
  EXPECT_TRUE(std::isnan(y.get()[2]));  // cuBLAS multiplies
  EXPECT_EQ(CUBLAS_STATUS_SUCCESS, cublasDasum(handle, 3, x.data(), 1, &result));
  EXPECT_EQ(9, result);
  cublasDestroy(handle);
}

TEST_F(EmulationDeathTest, LibrariesTellPointersApart) {
  cublasHandle_t handle;
  cublasCreate(&handle);
  Device<float> x(Count(4));
  float host[4] = {}, result;
  EXPECT_DEATH(cublasSscal(handle, 4, x.data(), x.data(), 1), "scal's alpha .* has to be on the host");
  EXPECT_DEATH(cublasSdot(handle, 4, x.data(), 1, host, 1, &result), "dot's y .* is not device memory");
  EXPECT_DEATH(cublasSdot(handle, 5, x.data(), 1, x.data(), 1, &result), "dot's x .*20 bytes.* ends after 16");
  EXPECT_DEATH(cublasSasum(handle, 4, x.data(), 1, x.data()), "asum's result .* has to be on the host");
  cublasDestroy(handle);
}

TEST_F(EmulationTest, RandomNumbers) {
  curandGenerator_t generator;
  curandCreateGenerator(&generator, CURAND_RNG_PSEUDO_DEFAULT);
  Device<float> x(std::vector<float>(1000, 0));
  curandSetPseudoRandomGeneratorSeed(generator, 3);
  EXPECT_EQ(CURAND_STATUS_SUCCESS, curandGenerateNormal(generator, x.data(), 1000, 5, 2));
  const std::vector<float> first = x.get();
  double mean = 0;
  for (int i = 0; i < 1000; ++i) {
    mean += first[i] / 1000;
  }
  EXPECT_NEAR(5, mean, 0.4);
  curandSetPseudoRandomGeneratorSeed(generator, 3);
  curandGenerateNormal(generator, x.data(), 1000, 5, 2);
  EXPECT_EQ(first, x.get());
  EXPECT_EQ(CURAND_STATUS_LENGTH_NOT_MULTIPLE, curandGenerateNormal(generator, x.data(), 999, 5, 2));
  curandDestroyGenerator(generator);
}

}  // namespace
