"""Networks that recognise faces, read landmarks, or tell age and gender."""

from __future__ import annotations

from .model import Model, Preset, Weights

_SIZE = (112, 96)
_MTCNN_FORK = "landmark_and_pose/new_model"

FACES = (
    Model(
        "center-face", "center loss: residual network of 27 convolutions", "face embedding",
        "ydwen/caffe-face", "face_example/face_deploy.prototxt", "face_model.caffemodel, by a link in README.md", "MIT",
        Preset((127.5,), 1 / 128, "face_example/extractDeepFeature.m", size=_SIZE),
        ("fc5",),
        note="the embedding is fc5 of the face beside fc5 of its mirror image",
    ),
    Model(
        "sphereface", "SphereFace-20", "face embedding",
        "wy1iu/sphereface", "train/code/sphereface_deploy.prototxt",
        "sphereface_model.caffemodel, by a link in README.md", "MIT",
        Preset((127.5,), 1 / 128, "test/code/evaluation.m", size=_SIZE),
        ("fc5",),
        note="the embedding is fc5 of the face beside fc5 of its mirror image",
    ),
    Model(
        "normface", "NormFace: center-face's network finetuned with normalised softmax", "face embedding",
        "happynear/NormFace", "", "by a link in README.md", "MIT",
        Preset((128.0,), 1 / 128, "YTF/extract_feature.m", size=_SIZE),
        ("fc5",),
        note="its network is center-face's; example_of_mirror_face.prototxt there adds the mirror image",
    ),
    Model(
        "normface-mnist", "NormFace's 2-D features of MNIST", "digits",
        "happynear/NormFace", "draw/figure2/lenet_NCA_nonorm.prototxt", "draw/figure2/lenet_iter_20000.caffemodel",
        "MIT",
        Preset((128.0,), 1 / 128, "draw/figure2/lenet_NCA_nonorm.prototxt", size=(28, 28)),
        ("ip1_dr",), grey=True,
        file=Weights(1711920, "e68e6adac05b2fee51fcd0d559128728d1a95700567b000d92a6588bdf3c0fdb", 13, 3.55e-6),
    ),
    Model(
        "am-softmax", "AM-Softmax: residual network of 20 convolutions", "face embedding",
        "happynear/AMSoftmax", "prototxt/face_deploy_mirror_normalize.prototxt", "by a link in README.md", "MIT",
        Preset((128.0,), 1 / 128, "prototxt/face_train_test.prototxt", size=_SIZE),
        ("norm1",),
        note="the network mirrors the face itself and takes the larger of the two",
    ),
    Model(
        "mobilefacenet", "MobileFaceNet, 128-D", "face embedding",
        "", "", "mobilefacenet.caffemodel", "not stated",
        Preset((127.5,), 1 / 128, "this project: docs/recognition.md", rgb=True, size=(112, 112)),
        ("fc1",),
        file=Weights(4120535, "e7df91afb6232c1d25dd91b9891049c9b98ec0fbc10ed5758e9b0ab02c30d61c", 195, 1.32e-5),
        measured="LFW 99.42 %, BLUFR VR at FAR 0.1 % 99.25 % (docs/evaluation.md)",
        note="a Caffe copy whose repository is not known here; a 112x96 face is padded by 8 black columns on each side",
    ),
    Model(
        "mobilefacenet-kaleido", "MobileFaceNet trained in Caffe", "face embedding",
        "KaleidoZhouYN/mobilefacenet-caffe", "proto/deploy.prototxt", "none in the repository",
        outputs=("fc5",),
        note="the network takes 112x96; the repository does not say with which numbers",
    ),
    Model(
        "light-cnn-a", "LightCNN A", "face embedding",
        "AlfredXiangWu/face_verification_experiment", "proto/LightenedCNN_A_deploy.prototxt",
        "model/LightenedCNN_A.caffemodel", "non-commercial use only (README.md)",
        grey=True,
        note="grey faces of 128x128 (README.md); the repository does not say with which scale",
    ),
    Model(
        "light-cnn-b", "LightCNN B", "face embedding",
        "AlfredXiangWu/face_verification_experiment", "proto/LightenedCNN_B_deploy.prototxt",
        "model/LightenedCNN_B.caffemodel", "non-commercial use only (README.md)",
        outputs=("eltwise_fc1",), grey=True,
        note="grey faces of 128x128 (README.md); the repository does not say with which scale",
    ),
    Model(
        "light-cnn-c", "LightCNN C", "face embedding",
        "AlfredXiangWu/face_verification_experiment", "proto/LightenedCNN_C_deploy.prototxt",
        "model/LightenedCNN_C.tar.gz00 and .tar.gz01", "non-commercial use only (README.md)",
        outputs=("eltwise_fc1",), grey=True,
        note="grey faces of 128x128 (README.md); the repository does not say with which scale",
    ),
    Model(
        "vanface", "VanFace: 68 landmarks of a face", "landmarks",
        "lsy17096535/face-landmark", "model/landmark_deploy.prototxt", "model/VanFace.caffemodel",
        outputs=("Dense3",), grey=True,
        file=Weights(3297959, "7fb211db9bdae8d72014330bd86c781863a4cf81eadfc1cbd859aa59c065e44e", 19, 3.78e-6),
        note="grey, 60x60, each face (x - its mean) / (1e-6 + its standard deviation) (face_landmark.py)",
    ),
    Model(
        "arcface-landmark", "21 landmarks and the pose of a face", "landmarks",
        "xialuxi/arcface-caffe", "", f"{_MTCNN_FORK}/landmark.caffemodel", "MIT",
        Preset((127.5,), 1 / 128, f"{_MTCNN_FORK}/detect.py", size=(48, 48)),
        ("fc2",),
        file=Weights(701873, "3ebc08131acc8525e1b2bef090ff747d26273aa6ae0c384067dc9a8591d2f0a9", 12, 6.47e-6),
        note="fc2 holds three angles / 90, then x, y of each landmark from the centre, in halves of the face's size",
    ),
    Model(
        "deep-landmark-1f", "deep convolutional network cascade, level 1, whole face", "landmarks",
        "luoyetx/deep-landmark", "", "webapp/v0.0.6/1_F.caffemodel", "BSD-3-Clause",
        outputs=("fc2",), grey=True,
        file=Weights(613575, "d812ecd121758360203fd0d8c76a45290a975f8b1da09e249be07abdc83b8d35", 18, 1.01e-6),
        note="grey, 39x39, each face (x - its mean) / its standard deviation (common/utils.py)",
    ),
    Model(
        "age", "age in eight classes", "age and gender",
        "GilLevi/AgeGenderDeepLearning", "age_net_definitions/deploy.prototxt", "models/age_net.caffemodel",
        "not stated (as is, README.md)", outputs=("prob",),
        note="BGR, 227x227, less the mean image models/mean.binaryproto (AgeGenderDemo.ipynb): --mean mean.binaryproto",
    ),
    Model(
        "gender", "gender in two classes", "age and gender",
        "GilLevi/AgeGenderDeepLearning", "gender_net_definitions/deploy.prototxt", "models/gender_net.caffemodel",
        "not stated (as is, README.md)", outputs=("prob",),
        note="BGR, 227x227, less the mean image models/mean.binaryproto (AgeGenderDemo.ipynb): --mean mean.binaryproto",
    ),
)  # fmt: skip
