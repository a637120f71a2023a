#include <algorithm>
#include <vector>

#include "caffe/layers/general_contrastive_loss_layer.hpp"
#include "caffe/util/block_reduce.cuh"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
__device__ __forceinline__ Dtype ContrastivePositive(const GeneralContrastiveOptions<Dtype>& options, const Dtype d) {
  const Dtype beyond = d - options.positive_margin;
  return beyond < 0 ? Dtype(0) : (beyond > options.positive_outlier_thresh ? options.positive_outlier_thresh : beyond);
}

// A block a row: what the row's negatives come to.
template <typename Dtype>
__global__ void ContrastiveRows(const int rows, const int classes, const GeneralContrastiveOptions<Dtype> options,
    const Dtype* distances, const Dtype* basis, const Dtype* label, const Dtype* running_mean, int* negatives,
    Dtype* row_sums) {
  const Dtype margin = options.negative_margin + *running_mean;
  for (int i = blockIdx.x; i < rows; i += gridDim.x) {
    const Dtype* d = distances + static_cast<size_t>(i) * classes;
    const Dtype* b = basis + static_cast<size_t>(i) * classes;
    const int y = ClassOf(label[i]);
    if (y < 0) {
      if (threadIdx.x == 0) {
        row_sums[i] = row_sums[rows + i] = row_sums[2 * rows + i] = 0;
        negatives[i] = options.NO_NEGATIVE;
      }
      continue;
    }
    Dtype short_of_margin = 0, exponentials = 0, slopes = 0;
    Dtype broken = 0;  // or NaN, where a distance is
    Dtype largest = -1;  // below every term
    int at = options.NO_NEGATIVE;
    for (int j = threadIdx.x; j < classes; j += blockDim.x) {
      const Dtype value = d[j];
      if (value != value) {
        broken = value;
      }
      if (options.normalize_negative > 0 && j != y && b[j] < margin) {
        slopes += options.exp_negative_weight ? exp(-b[j]) : Dtype(1);
      }
      if (j != y && !(value >= margin)) {
        Dtype term = margin - value;
        short_of_margin += term;
        if (options.exp_negative_weight) {
          term = exp(-value);
          exponentials += term;
        }
        if (term > largest) {
          largest = term;
          at = j;
        }
      }
    }
    short_of_margin = BlockSum(short_of_margin);
    slopes = BlockSum(slopes);
    broken = BlockSum(broken);
    Dtype terms;
    int counting = options.ALL_NEGATIVES;
    if (options.max_negative_only) {
      BlockArgMax(&largest, &at);
      terms = at == options.NO_NEGATIVE ? Dtype(0) : largest;
      const bool beaten = y == 0 && options.negative_weight * terms
          <= options.positive_weight * ContrastivePositive(options, d[y]);
      counting = beaten ? options.NO_NEGATIVE : at;
      terms = beaten ? Dtype(0) : terms;
      slopes = 0;
      if (counting >= 0 && b[at] < margin) {
        slopes = options.exp_negative_weight ? exp(-b[at]) : Dtype(1);
      }
    } else {
      terms = options.exp_negative_weight ? BlockSum(exponentials) : short_of_margin;
    }
    const bool skipped = options.positive_first && d[y] > options.positive_upper_bound;
    const bool unpushed = options.positive_first && b[y] > options.positive_upper_bound;
    if (threadIdx.x == 0) {
      negatives[i] = counting;
      row_sums[i] = short_of_margin;
      row_sums[rows + i] = (skipped ? Dtype(0) : options.negative_weight * terms) + broken;
      row_sums[2 * rows + i] = unpushed ? Dtype(0) : options.negative_weight * slopes;
    }
  }
}

// One block: the loss, the report (if report_size > 0), the state for Backward and the next Forward, and the
// positives' slopes.
template <typename Dtype>
__global__ void ContrastiveTotals(const int rows, const int labelled, const int classes,
    const GeneralContrastiveOptions<Dtype> options, const Dtype* distances, const Dtype* basis, const Dtype* label,
    const Dtype* row_sums, Dtype* pull, Dtype* running_mean,
    Dtype* margin, Dtype* negative_factor, Dtype* loss, const int report_size, Dtype* report) {
  Dtype positives = 0, short_of_margin = 0, terms = 0, slopes = 0;
  Dtype nearness = -options.positive_outlier_thresh;  // of the smallest positive term, negated for BlockArgMax
  int nearest = rows;
  for (int i = threadIdx.x; i < rows; i += blockDim.x) {
    if (label[i] < 0) {
      continue;
    }
    const Dtype positive = ContrastivePositive(options,
        distances[static_cast<size_t>(i) * classes + static_cast<int>(label[i])]);
    positives += positive;
    if (nearest == rows || -positive > nearness) {
      nearness = -positive;
      nearest = i;
    }
    short_of_margin += row_sums[i];
    terms += row_sums[rows + i];
    slopes += row_sums[2 * rows + i];
  }
  positives = BlockSum(positives);
  short_of_margin = BlockSum(short_of_margin);
  terms = BlockSum(terms);
  slopes = BlockSum(slopes);
  BlockArgMax(&nearness, &nearest);
  for (int i = threadIdx.x; i < rows; i += blockDim.x) {
    if (label[i] < 0) {
      pull[i] = 0;
      continue;
    }
    const Dtype d = basis[static_cast<size_t>(i) * classes + static_cast<int>(label[i])];
    const Dtype beyond = d - options.positive_margin;
    bool pulled = beyond > 0 && (options.exact_gradient ? beyond : d) < options.positive_outlier_thresh;
    pulled = pulled && (!options.max_positive_only || i == nearest);
    pulled = pulled || (!options.exact_gradient && options.positive_first && d > options.positive_upper_bound);
    pull[i] = pulled ? options.positive_weight : Dtype(0);
  }
  if (threadIdx.x == 0) {
    const Dtype counted = options.max_positive_only ? -nearness : positives;
    *loss = (options.positive_weight * counted + terms) / labelled;
    *margin = options.negative_margin + *running_mean;
    const Dtype mean = options.normalize_negative > 0 ? slopes / options.normalize_negative / labelled : Dtype(0);
    *negative_factor = mean > options.positive_weight ? Dtype(1) / mean : Dtype(1);
    const Dtype positive_mean = positives / labelled;
    if (options.update_running_mean) {
      const Dtype running = Dtype(0.99) * *running_mean + Dtype(0.01) * positive_mean;
      *running_mean = running > options.max_negative_margin ? options.max_negative_margin : running;
    }
    if (report_size > 0) {
      report[0] = positive_mean;
      report[1] = short_of_margin / labelled / (classes > 1 ? classes - 1 : 1);
    }
    if (report_size > 2) {
      report[2] = *running_mean;
    }
  }
}

template <typename Dtype>
__global__ void ContrastiveGradient(const int nthreads, const int classes,
    const GeneralContrastiveOptions<Dtype> options, const Dtype rate, const Dtype* margin,
    const Dtype* negative_factor, const Dtype* basis, const Dtype* label, const Dtype* pull,
    const int* negatives, Dtype* gradient) {
  const Dtype push = -rate * options.negative_weight * *negative_factor;
  CUDA_KERNEL_LOOP(index, nthreads) {
    const int i = index / classes;
    const int j = index % classes;
    const int y = ClassOf(label[i]);
    int only = negatives[i];
    if (y >= 0 && options.positive_first
        && basis[static_cast<size_t>(i) * classes + y] > options.positive_upper_bound) {
      only = options.NO_NEGATIVE;
    }
    const Dtype d = basis[index];
    Dtype value = 0;
    if (j == y) {
      value = rate * pull[i];
    } else if ((only == options.ALL_NEGATIVES || only == j) && d < *margin) {
      value = options.exp_negative_weight ? push * exp(-d) : push;
    }
    gradient[index] = value;
  }
}

template <typename Dtype>
void GeneralContrastiveLossLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  labelled_ = std::max(1, CheckLabels(this->layer_param_.name(), *bottom[1], C_));
  const Dtype* d = bottom[0]->gpu_data();
  const Dtype* basis = bottom[bottom.size() > 2 ? 2 : 0]->gpu_data();  // of the gradient
  const Dtype* label = bottom[1]->gpu_data();
  Dtype* state = state_.mutable_gpu_data();
  Dtype* row_sums = row_sums_.mutable_gpu_data();
  // NOLINT_NEXT_LINE(whitespace/operators)
  ContrastiveRows<Dtype><<<RowBlocks(N_), RowThreads(C_)>>>(N_, C_, options_, d, basis, label,
      state + RUNNING_MEAN, negatives_.mutable_gpu_data(), row_sums);
  CUDA_POST_KERNEL_CHECK;
  const int report_size = top.size() > 1 ? top[1]->count() : 0;
  Dtype* report = top.size() > 1 ? top[1]->mutable_gpu_data() : NULL;
  // NOLINT_NEXT_LINE(whitespace/operators)
  ContrastiveTotals<Dtype><<<1, RowThreads(N_)>>>(N_, labelled_, C_, options_, d, basis, label, row_sums,
      pull_.mutable_gpu_data(), state + RUNNING_MEAN, state + MARGIN, state + NEGATIVE_FACTOR,
      top[0]->mutable_gpu_data(), report_size, report);
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
void GeneralContrastiveLossLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  if (bottom.size() > 2 && propagate_down[2]) {
    caffe_gpu_set(bottom[2]->count(), Dtype(0), bottom[2]->mutable_gpu_diff());
  }
  if (!propagate_down[0]) {
    return;
  }
  const Dtype* state = state_.gpu_data();
  const Dtype rate = top[0]->cpu_diff()[0] / labelled_;
  const int count = bottom[0]->count();
  // NOLINT_NEXT_LINE(whitespace/operators)
  ContrastiveGradient<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, C_, options_, rate,
      state + MARGIN, state + NEGATIVE_FACTOR, bottom[bottom.size() > 2 ? 2 : 0]->gpu_data(), bottom[1]->gpu_data(),
      pull_.gpu_data(), negatives_.gpu_data(), bottom[0]->mutable_gpu_diff());
  CUDA_POST_KERNEL_CHECK;
}

INSTANTIATE_LAYER_GPU_FUNCS(GeneralContrastiveLossLayer);

}  // namespace caffe
