"""Fields of Caffe's forks that change no number: how the work is shared out, what is kept in memory, how fast it goes.

They are passed over without a word, whatever they hold. The repositories that define them, in their
``src/caffe/proto/caffe.proto``: NVIDIA/caffe (types and algorithms of cuDNN, caches and threads of data layers),
intel/caffe (engines, nodes, 8-bit ranges of its own kernels), yjxiong/caffe (``mem_param``), BVLC/caffe (``engine``).
"""

from __future__ import annotations

NET, LAYER = "a net", "a layer"
"""The titles of the two messages that no field names."""

NO_EFFECT: dict[str, frozenset[str]] = {
    NET: frozenset(
        {
            "compile_net_state",
            "default_backward_math",
            "default_backward_type",
            "default_conv_algos_override",
            "default_cudnn_math_override",
            "default_forward_math",
            "default_forward_type",
            "eltwise_mem_sharing",
            "engine",
            "global_grad_scale",  # the gradients are divided by it again before the update
            "global_grad_scale_adaptive",
            "mem_param",
            "multinode",
            "optimize_mem",
            "profile_info",
            "profile_iter",
            "profile_warmup",
            "reduce_buckets",
        }
    ),
    LAYER: frozenset(
        {
            "backward_math",
            "backward_type",
            "cudnn_math_override",
            "debug",
            "engine",
            "forward_math",
            "forward_type",
            "mn_activation_param",
            "mn_grad_compress_param",
            "multinode",
            "quantization_param",  # ranges for intel/caffe's 8-bit kernels; the function is the same
            "split_param",
            "trt_param",
        }
    ),
    "concat_param": frozenset({"engine", "per_fla_fuse"}),
    "convolution_param": frozenset({"conv_algorithm", "conv_algos_override", "cudnn_convolution_algo_seeker"}),
    "crop_param": frozenset({"engine"}),
    "data_param": frozenset({"cache", "parser_threads", "precache", "prefetch", "shuffle", "threads"}),
    "dropout_param": frozenset({"engine", "random_seed"}),
    "eltwise_param": frozenset({"engine"}),
    "hdf5_data_param": frozenset({"cache", "prefetch", "threads"}),
    "image_data_param": frozenset({"cache", "dataset_share_per_node", "precache", "prefetch", "threads"}),
    "inner_product_param": frozenset({"engine"}),
    "batch_norm_param": frozenset({"engine"}),
    "scale_param": frozenset({"engine"}),
    "prelu_param": frozenset({"engine"}),
    "elu_param": frozenset({"engine"}),
    "slice_param": frozenset({"engine"}),
    "split_param": frozenset({"engine"}),
    "transform_param": frozenset({"display", "random_seed", "use_gpu_transform"}),
}  # fmt: skip


def changes_nothing(message: str, field: str) -> bool:
    """Return whether the field of that message (its name, or NET or LAYER) is one of those."""
    return field in NO_EFFECT.get(message, ())
