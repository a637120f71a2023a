"""Networks that find faces, objects, number plates and QR codes."""

from __future__ import annotations

from .model import Model, Preset, Weights

_MTCNN = "kpzhang93/MTCNN_face_detection_alignment"
_STAGES = "code/codes/MTCNNv1"
_TURNED = "it was trained on images with x and y exchanged: exchange them before, and in what it gives"
_FACES_1MB = "Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB"
_HEADS = tuple(
    f"face_rpn_{head}_stride{stride}"
    for stride in (32, 16, 8)
    for head in ("cls_prob_reshape", "bbox_pred", "landmark_pred")
)
_IMAGENET_OF_RCNN = (102.9801, 115.9465, 122.7717)


def _mtcnn(stage: int, title: str, size: int | None, outputs: tuple[str, ...], file: Weights, note: str) -> Model:
    return Model(
        f"mtcnn-{title.lower()}", f"MTCNN, stage {stage} ({title})", "face detection",
        _MTCNN, f"{_STAGES}/model/det{stage}.prototxt", f"{_STAGES}/model/det{stage}.caffemodel", "MIT",
        Preset((127.5,), 0.0078125, f"{_STAGES}/detect_face.m", rgb=True, size=None if size is None else (size, size)),
        outputs, file=file, note=note,
        measured="faces found and aligned (docs/alignment.md)",
    )  # fmt: skip


DETECTORS = (
    _mtcnn(
        1, "PNet", None, ("prob1", "conv4-2"),
        Weights(28163, "d6085e7f48ba7e6b6f1b58964595f6bce5b97bcc4866751f7b4bdc98f920c096", 10, 1.32e-6),
        f"takes images of any size from 12x12 on; {_TURNED}",
    ),
    _mtcnn(
        2, "RNet", 24, ("prob1", "conv5-2"),
        Weights(407910, "39b20f7a57bb8176cc9466cea4dfd52da6a6f876de60c7ab222a309f2d0ca08c", 13, 9.3e-6),
        _TURNED,
    ),
    _mtcnn(
        3, "ONet", 48, ("prob1", "conv6-2", "conv6-3"),
        Weights(1558412, "9d6098829a4d6d318f37cec42142465637fafe4c673f2e93b69495bf7ca23d2d", 18, 4.47e-6),
        f"conv6-3 holds the five landmarks; {_TURNED}",
    ),
    Model(
        "mtcnn-lnet", "MTCNN v2, landmarks (LNet)", "landmarks",
        _MTCNN, "code/codes/MTCNNv2/model/det4.prototxt", "code/codes/MTCNNv2/model/det4.caffemodel", "MIT",
        file=Weights(3798152, "23dfa3f889a8dd5d1ffe7429229270892bcb19221ede13aaac8896ea060bfb76", 63, 4.14e-6),
        outputs=tuple(f"fc5_{number}" for number in range(1, 6)),
        note="patches around five landmarks; what goes into them was not read here",
    ),
    Model(
        "mtcnn-pnet-fast", "MTCNN's first stage, made smaller", "face detection",
        "imistyrain/MTCNN", "", "model/fast/det1_.caffemodel", "MIT",
        outputs=("prob1", "conv4-2"),
        file=Weights(17198, "13535969fa9cbdd90986365e8bdc7a8f4267d656aa9161ad5583a54daee47311", 16, 3.43e-6),
        note="(x - 127.5) * 0.0078125 in caffe/MTCNN.cpp; in which order of channels was not read here",
    ),
    Model(
        "retinaface-mnet", "RetinaFace on MobileNet-0.25", "face detection",
        "cholihao/Retinaface-caffe", "caffemodel/mnet.prototxt", "caffemodel/mnet.caffemodel", "not stated",
        Preset((0.0,), 1.0, "source/detect.cpp", rgb=True, size=(640, 640)),
        _HEADS,
        file=Weights(1772159, "693b1b43dd604d9acfeaa1323e50ad9a75626c70092e63c97d742ce80a30d40a", 209, 5.38e-5),
        note="three heads at strides 32, 16 and 8; their anchors are in source/anchor_generator.cpp",
    ),
    Model(
        "retinaface-mnetv2", "RetinaFace on MobileNet v2-0.25", "face detection",
        "cholihao/Retinaface-caffe", "caffemodel/mnetv2_0_25.prototxt", "caffemodel/mnetv2_0_25.caffemodel",
        "not stated",
        Preset((0.0,), 1.0, "source/detect.cpp", rgb=True, size=(640, 640)),
        _HEADS,
        file=Weights(2177774, "dcb693a622c58bb381903176c6096592db46e887ebafbd75ee15509da2e430df", 306, 4.63e-5),
    ),
    Model(
        "ultra-light-slim-320", "ultra-light face detector, slim", "face detection",
        _FACES_1MB, "caffe/model/Slim-320/slim-320.prototxt", "caffe/model/Slim-320/slim-320.caffemodel", "MIT",
        Preset((127.0,), 1 / 128, "caffe/ultra_face_opencvdnn_inference.py", rgb=True, size=(240, 320)),
        ("boxes", "scores"),
        file=Weights(1037497, "6110754ba06d4f4d89dd028d34e2bbfbbdce442b100c3f30c39b93ec8f13b6db", 95, 2.11e-5),
        note="its default boxes are made in caffe/ultra_face_opencvdnn_inference.py",
    ),
    Model(
        "ultra-light-rfb-320", "ultra-light face detector, RFB", "face detection",
        _FACES_1MB, "caffe/model/RFB-320/RFB-320.prototxt", "caffe/model/RFB-320/RFB-320.caffemodel", "MIT",
        Preset((127.0,), 1 / 128, "caffe/ultra_face_opencvdnn_inference.py", rgb=True, size=(240, 320)),
        ("boxes", "scores"),
        file=Weights(1102521, "4a59411c442a649b4adbb353f7ba201492b2ef9f30b65019208252d781501e27", 110, 1.83e-5),
        note="its default boxes are made in caffe/ultra_face_opencvdnn_inference.py",
    ),
    Model(
        "res10-ssd", "OpenCV's face detector: SSD on a ResNet of 10 layers", "face detection",
        "opencv/opencv", "samples/dnn/face_detector/deploy.prototxt",
        "res10_300x300_ssd_iter_140000.caffemodel in opencv/opencv_3rdparty, branch dnn_samples_face_detector_20170830",
        "not stated (the branch of the weights has no licence)",
        Preset((104.0, 177.0, 123.0), 1.0, "samples/dnn/models.yml", size=(300, 300)),
        ("detection_out",),
        note="the middle number is 177 there, not ImageNet's 117", branch="4.x",
    ),
    Model(
        "mobilenet-ssd", "MobileNet-SSD, VOC's 20 classes", "object detection",
        "chuanqi305/MobileNet-SSD", "deploy.prototxt", "mobilenet_iter_73000.caffemodel", "MIT",
        Preset((127.5,), 0.007843, "demo.py", size=(300, 300)),
        ("detection_out",),
    ),
    Model(
        "ssd-300", "SSD-300 on VGG-16, VOC's 20 classes", "object detection",
        "weiliu89/caffe", "", "by a link in README.md",
        "BSD-2-Clause",
        Preset((104.0, 117.0, 123.0), 1.0, "examples/ssd/ssd_pascal.py", size=(300, 300)),
        ("detection_out",),
        note="ssd_pascal.py writes its network", branch="ssd",
    ),
    Model(
        "faster-rcnn-vgg16", "Faster R-CNN on VGG-16, VOC's 20 classes", "object detection",
        "rbgirshick/py-faster-rcnn", "models/pascal_voc/VGG16/faster_rcnn_end2end/test.prototxt",
        "by data/scripts/fetch_faster_rcnn_models.sh", "MIT",
        Preset(_IMAGENET_OF_RCNN, 1.0, "lib/fast_rcnn/config.py"),
        ("rois", "cls_prob", "bbox_pred"),
        note="images of any size; docs/converting.md tells of detectors in two stages",
    ),
    Model(
        "rfcn-resnet101", "R-FCN on ResNet-101, VOC's 20 classes", "object detection",
        "YuwenXiong/py-R-FCN", "models/pascal_voc/ResNet-101/rfcn_end2end/test_agnostic.prototxt",
        "by a link in README.md", "MIT",
        Preset(_IMAGENET_OF_RCNN, 1.0, "lib/fast_rcnn/config.py"),
        ("rois", "cls_prob", "bbox_pred"),
        note="images of any size; docs/converting.md tells of detectors in two stages",
    ),
    Model(
        "wechat-qr-detect", "WeChat's QR code detector", "QR codes",
        "WeChatCV/opencv_3rdparty", "detect.prototxt", "detect.caffemodel", "not stated",
        Preset((0.0,), 1 / 255, "opencv/opencv_contrib: modules/wechat_qrcode/src/detector/ssd_detector.cpp"),
        ("detection_out",), grey=True,
        file=Weights(965430, "cc49b8c9babaf45f3037610fe499df38c8819ebda29e90ca9f2e33270f6ef809", 181, 7.92e-6),
        note="images of any size, 384x384 declared", branch="wechat_qrcode",
    ),
    Model(
        "wechat-qr-sr", "WeChat's QR code super-resolution, two times", "QR codes",
        "WeChatCV/opencv_3rdparty", "sr.prototxt", "sr.caffemodel", "not stated",
        Preset((0.0,), 1 / 255, "opencv/opencv_contrib: modules/wechat_qrcode/src/scale/super_scale.cpp"),
        ("fc",), grey=True,
        file=Weights(23929, "e5d36889d8e6ef2f1c1f515f807cec03979320ac81792cd8fb927c31fd658ae3", 24, 9.33e-6),
        note="images of any size, 224x224 declared", branch="wechat_qrcode",
    ),
    Model(
        "plate-rnet", "number plates: a second stage as MTCNN's", "number plates",
        "zhubenfu/License-Plate-Detect-Recognition-via-Deep-Neural-Networks-accuracy-up-to-99.9",
        "src/ocr_test/model_platecar/det2.prototxt", "src/ocr_test/model_platecar/det2.caffemodel", "not stated",
        outputs=("prob1", "conv5-2"),
        file=Weights(1287194, "fdbbaee7d85979e78d86e17104affc1184fb6858007ca31260bcc9f12d8d56a1", 13, 2.54e-6),
        note="(x - 127.5) * 0.0078125 in src/libClassification/MTMain.cpp; the order of channels was not read here",
    ),
    Model(
        "hyperlpr-ssd", "HyperLPR's plate detector, SSD", "number plates",
        "PyPI: hyperlpr 0.0.2", "hyperlpr/models/dnn/mininet_ssd_v1.prototxt",
        "hyperlpr/models/dnn/mininet_ssd_v1.caffemodel", "MIT (the package's classifier)",
        outputs=("detection_out",),
        file=Weights(3531160, "2bc2b55c1c06f00859400f677e918e85c5a6b1ae2454cc36009fdd8a954baa34", 119, 1.14e-5),
        note="512x512; the numbers were not read here",
    ),
    Model(
        "hyperlpr-finemapping", "HyperLPR's plate borders", "number plates",
        "PyPI: hyperlpr 0.0.2", "hyperlpr/models/dnn/HorizonalFinemapping.prototxt",
        "hyperlpr/models/dnn/HorizonalFinemapping.caffemodel", "MIT (the package's classifier)",
        outputs=("dense",),
        file=Weights(24108, "4361ec80da07016e18e76cd6318aaaac6c310bb7deb38fc7d6f28d01b3fa63ec", 10, 3.55e-6),
        note="16x66; the numbers were not read here",
    ),
    Model(
        "mobilenet-yolov3-lane", "MobileNet-YOLOv3-lite with lanes, TuSimple", "object detection",
        "eric612/MobileNet-YOLO", "models/tusimple/mobilenet_yolov3_lite_deploy.prototxt",
        "models/tusimple/mobilenet_yolov3_lite_deploy_iter_50000.caffemodel", "BSD-2-Clause",
        Preset((127.5,), 0.007843, "models/tusimple/mobilenet_yolov3_lite_train.prototxt", size=(512, 512)),
        file=Weights(2606048, "794de6c557725d1fabbcbb7704a64768e81342937e3d635b8419ce5d4b54e46e", 82, 1.86e-5),
    ),
)  # fmt: skip
