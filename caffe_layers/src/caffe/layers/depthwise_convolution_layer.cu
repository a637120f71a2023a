#include <algorithm>
#include <vector>

#include "caffe/layers/depthwise_convolution_layer.hpp"
#include "caffe/util/block_reduce.cuh"

namespace caffe {

/// Sizes, as a kernel takes them: of the bottom and the top, and along both axes.
struct DepthwiseSizes {
  int channels, outputs;
  int height, width, top_height, top_width;
  int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
};

// A thread a number of the top.
template <typename Dtype>
__global__ void DepthwiseForward(const int nthreads, const DepthwiseSizes s, const Dtype* x, const Dtype* weight,
    const Dtype* bias, Dtype* y) {
  CUDA_KERNEL_LOOP(index, nthreads) {
    const int column = index % s.top_width;
    const int row = index / s.top_width % s.top_height;
    const int output = index / s.top_width / s.top_height % s.outputs;
    const int n = index / s.top_width / s.top_height / s.outputs;
    const int channel = output / (s.outputs / s.channels);
    const Dtype* map = x + (static_cast<size_t>(n) * s.channels + channel) * s.height * s.width;
    const Dtype* w = weight + output * s.kernel_h * s.kernel_w;
    Dtype sum = bias ? bias[output] : Dtype(0);
    for (int i = 0; i < s.kernel_h; ++i) {
      const int h = row * s.stride_h - s.pad_h + i * s.dilation_h;
      for (int j = 0; j < s.kernel_w; ++j) {
        const int v = column * s.stride_w - s.pad_w + j * s.dilation_w;
        if (h >= 0 && h < s.height && v >= 0 && v < s.width) {
          sum += w[i * s.kernel_w + j] * map[h * s.width + v];
        }
      }
    }
    y[index] = sum;
  }
}

// A thread a number of the bottom.
template <typename Dtype>
__global__ void DepthwiseBottomGradient(const int nthreads, const DepthwiseSizes s, const Dtype* g,
    const Dtype* weight, Dtype* dx) {
  CUDA_KERNEL_LOOP(index, nthreads) {
    const int v = index % s.width;
    const int h = index / s.width % s.height;
    const int channel = index / s.width / s.height % s.channels;
    const int n = index / s.width / s.height / s.channels;
    const int copies = s.outputs / s.channels;
    Dtype sum = 0;
    for (int output = channel * copies; output < (channel + 1) * copies; ++output) {
      const Dtype* map = g + (static_cast<size_t>(n) * s.outputs + output) * s.top_height * s.top_width;
      for (int i = 0; i < s.kernel_h; ++i) {
        const int row = h + s.pad_h - i * s.dilation_h;
        for (int j = 0; j < s.kernel_w; ++j) {
          const int column = v + s.pad_w - j * s.dilation_w;
          if (row >= 0 && column >= 0 && row % s.stride_h == 0 && column % s.stride_w == 0
              && row / s.stride_h < s.top_height && column / s.stride_w < s.top_width) {
            sum += weight[(output * s.kernel_h + i) * s.kernel_w + j]
                * map[row / s.stride_h * s.top_width + column / s.stride_w];
          }
        }
      }
    }
    dx[index] = sum;
  }
}

// Numbers of a kernel that a thread adds up at once: those of 3 x 3.
#define TAPS 9

// parts (shares, outputs, kernel + 1): of the weight's gradient, and, last, of the bias's, what each share of the (num,
// top_height, top_width) positions gives. A block has TAPS numbers of a kernel, or fewer, and a share, so that a slope
// is read and its position divided up once for all of them.
template <typename Dtype>
__global__ void DepthwiseWeightParts(const int count, const int share, const int shares, const DepthwiseSizes s,
    const Dtype* g, const Dtype* x, Dtype* parts) {
  const int kernel = s.kernel_h * s.kernel_w;
  const int tiles = (kernel + TAPS - 1) / TAPS;
  const int positions = s.top_height * s.top_width;
  const int part = blockIdx.x % shares;
  const int first = blockIdx.x / shares % tiles * TAPS;
  const int output = blockIdx.x / shares / tiles;
  const int channel = output / (s.outputs / s.channels);
  int down[TAPS], right[TAPS];  // from where a position begins to a number of the kernel
  Dtype sums[TAPS], all = 0;
#pragma unroll
  for (int t = 0; t < TAPS; ++t) {
    const int tap = first + t;
    down[t] = tap < kernel ? tap / s.kernel_w * s.dilation_h - s.pad_h : s.height;  // beyond the kernel: beyond the map
    right[t] = tap % s.kernel_w * s.dilation_w - s.pad_w;
    sums[t] = 0;
  }
  const int end = count - part * share < share ? count : (part + 1) * share;
  for (int index = part * share + threadIdx.x; index < end; index += blockDim.x) {
    const int n = index / positions;
    const int position = index - n * positions;
    const int row = position / s.top_width;
    const int h0 = row * s.stride_h;
    const int v0 = (position - row * s.top_width) * s.stride_w;
    const Dtype slope = g[(static_cast<size_t>(n) * s.outputs + output) * positions + position];
    const Dtype* map = x + (static_cast<size_t>(n) * s.channels + channel) * s.height * s.width;
    all += slope;
#pragma unroll
    for (int t = 0; t < TAPS; ++t) {
      const int h = h0 + down[t];
      const int v = v0 + right[t];
      if (h >= 0 && h < s.height && v >= 0 && v < s.width) {
        sums[t] += slope * map[h * s.width + v];
      }
    }
  }
  Dtype* own = parts + (static_cast<size_t>(part) * s.outputs + output) * (kernel + 1);
#pragma unroll
  for (int t = 0; t < TAPS; ++t) {
    const Dtype sum = BlockSum(sums[t]);
    if (threadIdx.x == 0 && first + t < kernel) {
      own[first + t] = sum;
    }
  }
  all = BlockSum(all);
  if (threadIdx.x == 0 && first == 0) {
    own[kernel] = all;
  }
}

// The same where a kernel has more numbers than the top has positions, as one over a whole map: neighbouring threads
// have neighbouring numbers of a kernel, and of x. A block takes an output's share of the positions.
template <typename Dtype>
__global__ void DepthwiseLargeKernelParts(const int count, const int share, const int shares, const DepthwiseSizes s,
    const Dtype* g, const Dtype* x, Dtype* parts) {
  const int kernel = s.kernel_h * s.kernel_w;
  const int positions = s.top_height * s.top_width;
  const int part = blockIdx.x % shares;
  const int output = blockIdx.x / shares;
  const int channel = output / (s.outputs / s.channels);
  const int end = count - part * share < share ? count : (part + 1) * share;
  for (int tap = threadIdx.x; tap <= kernel; tap += blockDim.x) {
    const int down = tap / s.kernel_w * s.dilation_h - s.pad_h;
    const int right = tap % s.kernel_w * s.dilation_w - s.pad_w;
    Dtype sum = 0;
    for (int index = part * share; index < end; ++index) {
      const int n = index / positions;
      const int position = index - n * positions;
      const int h = position / s.top_width * s.stride_h + down;
      const int v = position % s.top_width * s.stride_w + right;
      const Dtype slope = g[(static_cast<size_t>(n) * s.outputs + output) * positions + position];
      if (tap == kernel) {
        sum += slope;
      } else if (h >= 0 && h < s.height && v >= 0 && v < s.width) {
        sum += slope * x[((static_cast<size_t>(n) * s.channels + channel) * s.height + h) * s.width + v];
      }
    }
    parts[(static_cast<size_t>(part) * s.outputs + output) * (kernel + 1) + tap] = sum;
  }
}

// dw and db (or NULL) grow by the sum of the parts (shares, outputs, kernel + 1), in their order.
template <typename Dtype>
__global__ void DepthwiseAddParts(const int nthreads, const int shares, const int kernel, const Dtype* parts,
    Dtype* dw, Dtype* db) {
  CUDA_KERNEL_LOOP(index, nthreads) {
    const int output = index / (kernel + 1);
    const int tap = index % (kernel + 1);
    Dtype sum = 0;
    for (int part = 0; part < shares; ++part) {
      sum += parts[static_cast<size_t>(part) * nthreads + index];
    }
    if (tap < kernel && dw) {
      dw[output * kernel + tap] += sum;
    } else if (tap == kernel && db) {
      db[output] += sum;
    }
  }
}

// Launches what adds up the gradients of the weight and the bias. The shares depend on the sizes alone, so that every
// device and every run adds in the same order.
template <typename Dtype>
static void WeightGradient(int num, const DepthwiseSizes& s, const Dtype* g, const Dtype* x, Blob<Dtype>* parts,
    Dtype* dw, Dtype* db) {
  const int enough = 2048;  // blocks, to keep a large device busy
  const int kernel = s.kernel_h * s.kernel_w;
  const int count = num * s.top_height * s.top_width;
  const bool large = kernel > s.top_height * s.top_width;
  const int blocks = s.outputs * (large ? 1 : (kernel + TAPS - 1) / TAPS);  // with one share
  const int least = large ? 16 : 1024;  // positions of a share
  const int wanted = std::max(1, std::min((enough + blocks - 1) / blocks, (count + least - 1) / least));
  const int share = (count + wanted - 1) / wanted;
  const int shares = (count + share - 1) / share;
  const int sums = s.outputs * (kernel + 1);
  parts->Reshape(vector<int>(1, shares * sums));
  if (large) {
    // NOLINT_NEXT_LINE(whitespace/operators)
    DepthwiseLargeKernelParts<Dtype><<<blocks * shares, RowThreads(kernel + 1)>>>(count, share, shares, s, g, x,
        parts->mutable_gpu_data());
  } else {
    // NOLINT_NEXT_LINE(whitespace/operators)
    DepthwiseWeightParts<Dtype><<<blocks * shares, RowThreads(share)>>>(count, share, shares, s, g, x,
        parts->mutable_gpu_data());
  }
  CUDA_POST_KERNEL_CHECK;
  // NOLINT_NEXT_LINE(whitespace/operators)
  DepthwiseAddParts<Dtype><<<CAFFE_GET_BLOCKS(sums), CAFFE_CUDA_NUM_THREADS>>>(sums, shares, kernel,
      parts->gpu_data(), dw, db);
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
static DepthwiseSizes SizesOf(const Blob<Dtype>& bottom, const Blob<Dtype>& top, int channel_axis,
    const Blob<int>& kernel, const Blob<int>& stride, const Blob<int>& pad, const Blob<int>& dilation) {
  DepthwiseSizes s;
  s.channels = bottom.shape(channel_axis);
  s.outputs = top.shape(channel_axis);
  s.height = bottom.shape(channel_axis + 1);
  s.width = bottom.shape(channel_axis + 2);
  s.top_height = top.shape(channel_axis + 1);
  s.top_width = top.shape(channel_axis + 2);
  s.kernel_h = kernel.cpu_data()[0];
  s.kernel_w = kernel.cpu_data()[1];
  s.stride_h = stride.cpu_data()[0];
  s.stride_w = stride.cpu_data()[1];
  s.pad_h = pad.cpu_data()[0];
  s.pad_w = pad.cpu_data()[1];
  s.dilation_h = dilation.cpu_data()[0];
  s.dilation_w = dilation.cpu_data()[1];
  return s;
}

template <typename Dtype>
void DepthwiseConvolutionLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  if (this->num_spatial_axes_ != 2) {
    ConvolutionLayer<Dtype>::Forward_gpu(bottom, top);
    return;
  }
  const Dtype* weight = this->blobs_[0]->gpu_data();
  const Dtype* bias = this->bias_term_ ? this->blobs_[1]->gpu_data() : NULL;
  for (int i = 0; i < bottom.size(); ++i) {
    const DepthwiseSizes sizes = SizesOf(*bottom[i], *top[i], this->channel_axis_, this->kernel_shape_, this->stride_,
        this->pad_, this->dilation_);
    const int count = top[i]->count();
    // NOLINT_NEXT_LINE(whitespace/operators)
    DepthwiseForward<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, sizes, bottom[i]->gpu_data(),
        weight, bias, top[i]->mutable_gpu_data());
    CUDA_POST_KERNEL_CHECK;
  }
}

template <typename Dtype>
void DepthwiseConvolutionLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  if (this->num_spatial_axes_ != 2) {
    ConvolutionLayer<Dtype>::Backward_gpu(top, propagate_down, bottom);
    return;
  }
  const Dtype* weight = this->blobs_[0]->gpu_data();
  Dtype* dw = this->param_propagate_down_[0] ? this->blobs_[0]->mutable_gpu_diff() : NULL;
  Dtype* db = this->bias_term_ && this->param_propagate_down_[1] ? this->blobs_[1]->mutable_gpu_diff() : NULL;
  for (int i = 0; i < top.size(); ++i) {
    const DepthwiseSizes sizes = SizesOf(*bottom[i], *top[i], this->channel_axis_, this->kernel_shape_, this->stride_,
        this->pad_, this->dilation_);
    const Dtype* g = top[i]->gpu_diff();
    if (dw || db) {
      WeightGradient(this->num_, sizes, g, bottom[i]->gpu_data(), &parts_, dw, db);
    }
    if (propagate_down[i]) {
      const int count = bottom[i]->count();
      // NOLINT_NEXT_LINE(whitespace/operators)
      DepthwiseBottomGradient<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, sizes, g, weight,
          bottom[i]->mutable_gpu_diff());
      CUDA_POST_KERNEL_CHECK;
    }
  }
}

INSTANTIATE_LAYER_GPU_FUNCS(DepthwiseConvolutionLayer);

}  // namespace caffe
