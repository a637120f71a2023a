#ifndef CAFFE_UTIL_BLOCK_REDUCE_CUH_
#define CAFFE_UTIL_BLOCK_REDUCE_CUH_

// Reductions within a warp and within a block, by shuffles. Every thread of the warp or block has to call them.

namespace caffe {

#define CAFFE_FACE_WARP 32

/// Threads of a block that reduces rows of `size` numbers: a power of two of whole warps, 256 at most.
inline int RowThreads(int size) {
  int threads = CAFFE_FACE_WARP;
  while (threads < size && threads < 256) {
    threads *= 2;
  }
  return threads;
}

/// Blocks for `rows` rows when every block takes a row, then the row that many rows further, ...
inline int RowBlocks(int rows) { return rows < 65535 ? rows : 65535; }

template <typename Value>
__device__ __forceinline__ Value ShuffleDown(Value value, int offset) {
#if defined(CUDART_VERSION) && CUDART_VERSION < 9000
  return __shfl_down(value, offset);
#else
  return __shfl_down_sync(0xffffffffu, value, offset);
#endif
}

/// The sum over the warp, in its first lane.
template <typename Dtype>
__device__ __forceinline__ Dtype WarpSum(Dtype value) {
  for (int offset = CAFFE_FACE_WARP / 2; offset > 0; offset /= 2) {
    value += ShuffleDown(value, offset);
  }
  return value;
}

/// The sum over the block, in every thread. For blocks of whole warps, 1024 threads at most.
template <typename Dtype>
__device__ __forceinline__ Dtype BlockSum(Dtype value) {
  __shared__ Dtype sums[CAFFE_FACE_WARP];
  const int lane = threadIdx.x % CAFFE_FACE_WARP;
  const int warp = threadIdx.x / CAFFE_FACE_WARP;
  value = WarpSum(value);
  __syncthreads();  // the sums of an earlier call have been read
  if (lane == 0) {
    sums[warp] = value;
  }
  __syncthreads();
  if (warp == 0) {
    const int warps = blockDim.x / CAFFE_FACE_WARP;
    value = WarpSum(lane < warps ? sums[lane] : Dtype(0));
    if (lane == 0) {
      sums[0] = value;
    }
  }
  __syncthreads();
  return sums[0];
}

/// The sum over the block's warps of what this lane has in each of them, in all of them. For 8 warps at most.
template <typename Dtype>
__device__ __forceinline__ Dtype SumAcrossWarps(Dtype value) {
  __shared__ Dtype parts[8][CAFFE_FACE_WARP];
  const int lane = threadIdx.x % CAFFE_FACE_WARP;
  const int warps = blockDim.x / CAFFE_FACE_WARP;
  __syncthreads();  // the parts of an earlier call have been read
  parts[threadIdx.x / CAFFE_FACE_WARP][lane] = value;
  __syncthreads();
  Dtype sum = 0;
  for (int warp = 0; warp < warps; ++warp) {
    sum += parts[warp][lane];
  }
  return sum;
}

/// The largest value over the block and its index, in every thread; of equal values the smaller index.
template <typename Dtype>
__device__ __forceinline__ void BlockArgMax(Dtype* value, int* index) {
  __shared__ Dtype values[CAFFE_FACE_WARP];
  __shared__ int indices[CAFFE_FACE_WARP];
  const int lane = threadIdx.x % CAFFE_FACE_WARP;
  const int warp = threadIdx.x / CAFFE_FACE_WARP;
  const int warps = blockDim.x / CAFFE_FACE_WARP;
  Dtype best = *value;
  int at = *index;
  for (int round = 0; round < 2; ++round) {
    for (int offset = CAFFE_FACE_WARP / 2; offset > 0; offset /= 2) {
      const Dtype other = ShuffleDown(best, offset);
      const int other_at = ShuffleDown(at, offset);
      if (other > best || (other == best && other_at < at)) {
        best = other;
        at = other_at;
      }
    }
    __syncthreads();
    if (lane == 0 && (round == 0 || warp == 0)) {
      values[round == 0 ? warp : 0] = best;
      indices[round == 0 ? warp : 0] = at;
    }
    __syncthreads();
    if (round == 0) {
      // The last lanes repeat warp 0, which changes no maximum.
      best = values[lane < warps ? lane : 0];
      at = indices[lane < warps ? lane : 0];
    }
  }
  *value = values[0];
  *index = indices[0];
  __syncthreads();
}

}  // namespace caffe

#endif  // CAFFE_UTIL_BLOCK_REDUCE_CUH_
