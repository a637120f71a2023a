#include <algorithm>
#include <vector>

#include "caffe/layers/general_triplet_loss_layer.hpp"
#include "caffe/util/block_reduce.cuh"
#include "caffe/util/check_labels.hpp"

namespace caffe {

// A block a row.
template <typename Dtype>
__global__ void TripletRows(const int rows, const int classes, const GeneralTripletOptions<Dtype> options,
    const Dtype* distances, const Dtype* label, Dtype* reaches, Dtype* pull, int* negatives, Dtype* row_sums) {
  for (int i = blockIdx.x; i < rows; i += gridDim.x) {
    const Dtype* d = distances + static_cast<size_t>(i) * classes;
    const int y = ClassOf(label[i]);
    if (y < 0) {
      if (threadIdx.x == 0) {
        reaches[i] = pull[i] = row_sums[i] = row_sums[rows + i] = 0;
        negatives[i] = options.NO_NEGATIVE;
      }
      continue;
    }
    const Dtype reach = d[y] + options.margin;
    Dtype terms = 0, others = 0;
    Dtype broken = 0;  // or NaN, where a distance is
    int count = 0;
    Dtype largest = 0;
    int at = options.NO_NEGATIVE;
    for (int j = threadIdx.x; j < classes; j += blockDim.x) {
      if (d[j] != d[j]) {
        broken = d[j];
      }
      if (j == y) {
        continue;
      }
      others += d[j];
      const Dtype term = reach - d[j];
      if (term > 0) {
        ++count;
        terms += term;
        if (term > largest) {
          largest = term;
          at = j;
        }
      }
    }
    others = BlockSum(others);
    broken = BlockSum(broken);
    int counting = options.ALL_NEGATIVES;
    if (options.hardest_only) {
      BlockArgMax(&largest, &at);
      counting = at;
      terms = largest;
      count = largest > 0;
    } else {
      terms = BlockSum(terms);
      count = BlockSum(count);
    }
    const bool skipped = options.positive_first && d[y] > options.positive_upper_bound;
    if (skipped) {
      counting = options.NO_NEGATIVE;
      terms = 0;
      count = 0;
    }
    if (threadIdx.x == 0) {
      reaches[i] = reach;
      negatives[i] = counting;
      if (options.exact_gradient) {
        pull[i] = options.negative_weight * count;
      } else {
        pull[i] = count > 0 || skipped || options.add_center_loss ? options.positive_weight : Dtype(0);
      }
      row_sums[i] = terms + broken;
      row_sums[rows + i] = others;
    }
  }
}

// One block: the loss, and the report unless it is NULL.
template <typename Dtype>
__global__ void TripletTotals(const int rows, const int labelled, const int classes, const Dtype negative_weight,
    const Dtype* distances, const Dtype* label, const Dtype* row_sums, Dtype* loss, Dtype* report) {
  Dtype own = 0, terms = 0, others = 0;
  for (int i = threadIdx.x; i < rows; i += blockDim.x) {
    if (label[i] < 0) {
      continue;
    }
    own += distances[static_cast<size_t>(i) * classes + static_cast<int>(label[i])];
    terms += row_sums[i];
    others += row_sums[rows + i];
  }
  own = BlockSum(own);
  terms = BlockSum(terms);
  others = BlockSum(others);
  if (threadIdx.x == 0) {
    *loss = negative_weight * terms / labelled;
    if (report) {
      report[0] = own / labelled;
      report[1] = others / labelled / (classes > 1 ? classes - 1 : 1);
    }
  }
}

template <typename Dtype>
__global__ void TripletGradient(const int nthreads, const int classes, const GeneralTripletOptions<Dtype> options,
    const Dtype rate, const Dtype* distances, const Dtype* label, const Dtype* reach, const Dtype* pull,
    const int* negatives, Dtype* gradient) {
  const Dtype push = -rate * options.negative_weight;
  CUDA_KERNEL_LOOP(index, nthreads) {
    const int i = index / classes;
    const int j = index % classes;
    const int only = negatives[i];
    Dtype value = 0;
    if (j == ClassOf(label[i])) {
      value = rate * pull[i];
    } else if ((only == options.ALL_NEGATIVES || only == j) && reach[i] - distances[index] > 0) {
      value = push;
    }
    gradient[index] = value;
  }
}

template <typename Dtype>
void GeneralTripletLossLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  labelled_ = std::max(1, CheckLabels(this->layer_param_.name(), *bottom[1], C_));
  const Dtype* d = bottom[0]->gpu_data();
  const Dtype* label = bottom[1]->gpu_data();
  Dtype* row_sums = row_sums_.mutable_gpu_data();
  // NOLINT_NEXT_LINE(whitespace/operators)
  TripletRows<Dtype><<<RowBlocks(N_), RowThreads(C_)>>>(N_, C_, options_, d, label, reach_.mutable_gpu_data(),
      pull_.mutable_gpu_data(), negatives_.mutable_gpu_data(), row_sums);
  CUDA_POST_KERNEL_CHECK;
  Dtype* report = top.size() > 1 ? top[1]->mutable_gpu_data() : NULL;
  // NOLINT_NEXT_LINE(whitespace/operators)
  TripletTotals<Dtype><<<1, RowThreads(N_)>>>(N_, labelled_, C_, options_.negative_weight, d, label, row_sums,
      top[0]->mutable_gpu_data(), report);
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
void GeneralTripletLossLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  if (!propagate_down[0]) {
    return;
  }
  const Dtype rate = top[0]->cpu_diff()[0] / labelled_;
  const int count = bottom[0]->count();
  // NOLINT_NEXT_LINE(whitespace/operators)
  TripletGradient<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, C_, options_, rate,
      bottom[0]->gpu_data(), bottom[1]->gpu_data(), reach_.gpu_data(), pull_.gpu_data(), negatives_.gpu_data(),
      bottom[0]->mutable_gpu_diff());
  CUDA_POST_KERNEL_CHECK;
}

INSTANTIATE_LAYER_GPU_FUNCS(GeneralTripletLossLayer);

}  // namespace caffe
