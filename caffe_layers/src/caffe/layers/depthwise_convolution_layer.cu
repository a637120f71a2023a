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

// A block a number of the weight, over all samples and positions; dw and db (or NULL) grow.
template <typename Dtype>
__global__ void DepthwiseWeightGradient(const int num, const DepthwiseSizes s, const Dtype* g, const Dtype* x,
    Dtype* dw, Dtype* db) {
  const int taps = s.kernel_h * s.kernel_w;
  const int positions = s.top_height * s.top_width;
  for (int at = blockIdx.x; at < s.outputs * taps; at += gridDim.x) {
    const int output = at / taps;
    const int channel = output / (s.outputs / s.channels);
    const int i = at % taps / s.kernel_w;
    const int j = at % s.kernel_w;
    Dtype sum = 0, all = 0;
    for (int index = threadIdx.x; index < num * positions; index += blockDim.x) {
      const int n = index / positions;
      const int row = index % positions / s.top_width;
      const int column = index % s.top_width;
      const int h = row * s.stride_h - s.pad_h + i * s.dilation_h;
      const int v = column * s.stride_w - s.pad_w + j * s.dilation_w;
      const Dtype slope = g[(static_cast<size_t>(n) * s.outputs + output) * positions + index % positions];
      all += slope;
      if (h >= 0 && h < s.height && v >= 0 && v < s.width) {
        sum += slope * x[((static_cast<size_t>(n) * s.channels + channel) * s.height + h) * s.width + v];
      }
    }
    sum = BlockSum(sum);
    all = BlockSum(all);
    if (threadIdx.x == 0) {
      if (dw) {
        dw[at] += sum;
      }
      if (db && at % taps == 0) {
        db[output] += all;
      }
    }
  }
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
      const int positions = this->num_ * sizes.top_height * sizes.top_width;
      // NOLINT_NEXT_LINE(whitespace/operators)
      DepthwiseWeightGradient<Dtype><<<RowBlocks(this->blobs_[0]->count()), RowThreads(positions)>>>(this->num_, sizes,
          g, bottom[i]->gpu_data(), dw, db);
      CUDA_POST_KERNEL_CHECK;
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
