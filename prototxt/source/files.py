"""The files of prototxt/: their names, what stands at their head, and their text."""

from __future__ import annotations

from collections.abc import Callable

from . import backbones, heads, solvers
from .layers import images, inputs, normalize

Layers = list[str]

FACE, DIGIT, TINY_DIGIT = (3, 112, 96), (1, 28, 28), (1, 8, 8)
CASIA = 10572  # people of CASIA-WebFace without those that are in LFW too, in caffe-face and NormFace
CASIA_CLEANED = 10516  # in AM-Softmax

NOTE = "Written by prototxt/write.py: change it there, or copy it."


def all_files() -> dict[str, str]:
    """Text by path below prototxt/."""
    made = center_face() | normface() | am_softmax() | mnist() | digits()
    return {f"{name}.prototxt": text + "\n" for name, text in made.items()}


def net(name: str, about: str, *layers: Layers) -> str:
    head = [f"# {line}" for line in [*about.splitlines(), NOTE]]
    return "\n".join([*head, f'name: "{name}"', *(text for part in layers for text in part)])


def center_face() -> dict[str, str]:
    name, about = "CenterFace", "The face network of caffe-face (Wen et al. 2016: center loss)"
    data, backbone = training_faces(127.5), backbones.center_face()
    head = heads.softmax_and_center("fc5", CASIA)
    return {
        "center_face/train_test": net(name, f"{about}: softmax and center loss, {CASIA} people.", data, backbone, head),
        "center_face/deploy": net(
            name,
            f"{about}, feature fc5. Takes face_model.caffemodel.\n{face_input(127.5)}",
            inputs(data=(1, *FACE)),
            backbone,
        ),
        "center_face/solver": solvers.center_face(),
    }


def normface() -> dict[str, str]:
    name, backbone = "NormFace", backbones.center_face()
    losses = {
        "scaled_cosine_softmax": ("softmax over s cosine, s learned", heads.scaled_cosine_softmax("fc5", CASIA)),
        "c_contrastive": ("C-contrastive loss", heads.c_contrastive("fc5", CASIA)),
        "c_triplet": ("C-triplet loss", heads.c_triplet("fc5", CASIA, 512)),
        "softmax_c_contrastive": (
            "softmax over s cosine, s learned, and 0.01 C-contrastive loss",
            heads.softmax_and_c_contrastive("fc5", CASIA, 512),
        ),
    }
    made = {}
    for file, (loss, head) in losses.items():
        about = f"NormFace (Wang et al. 2017): {loss}, {CASIA} people.\nFor finetuning face_model.caffemodel."
        made[f"normface/{file}_train_test"] = net(name, about, training_faces(127.5), backbone, head)
        made[f"normface/{file}_solver"] = solvers.normface(file)
    return made | deploy("normface", name, backbones.center_face, mean=127.5, merges=("SUM", "MAX", "CONCAT"))


def am_softmax() -> dict[str, str]:
    name, about = (
        "AMSoftmax",
        f"AM-Softmax (Wang et al. 2018): s = 30, m = 0.35, SphereFace-20, {CASIA_CLEANED} people.",
    )
    data, head = training_faces(128), heads.am_softmax("fc5", CASIA_CLEANED)
    return {
        "am_softmax/train_test": net(name, about, data, backbones.sphereface_20(), head),
        "am_softmax/solver": solvers.am_softmax(),
        **deploy("am_softmax", name, backbones.sphereface_20, mean=128, merges=("SUM",)),
    }


def deploy(
    folder: str, name: str, backbone: Callable[[str], Layers], mean: float, merges: tuple[str, ...]
) -> dict[str, str]:
    """The feature of unit length: of the face alone, and merged in each way with its mirror image's."""
    image = inputs(data=(1, *FACE))
    about = f"{name}, feature norm1 of unit length.\n{face_input(mean)}"
    made = {f"{folder}/deploy": net(name, about, image, backbone("data"), [normalize("norm1", "fc5")])}
    for how in merges:
        about = f"{name}, feature norm1: {how} of the face's and its mirror image's, then unit length."
        about += f"\n{face_input(mean)}"
        layers = [*image, *heads.with_mirror_image(), *backbone("both"), *heads.merged_features("fc5", how)]
        made[f"{folder}/deploy_mirror_{how.lower()}"] = net(name, about, layers)
    return made


def mnist() -> dict[str, str]:
    made, name = {}, "LeNet++"
    for size in (2, 3):
        about = f"LeNet++ (Wen et al. 2016, with NormFace's 3 x 3 kernels) for MNIST, {size}-D feature ip1"
        backbone, data = backbones.lenet_plus_plus(size), training_digits()
        first, then = f"softmax_{size}d", f"normalized_softmax_{size}d"
        head = heads.normalized_softmax("ip1", 10, size, lr_mult=10)
        finetuning = f"{about}: normalised softmax.\nFor finetuning a snapshot of {first}."
        made |= {
            f"mnist/{first}_train_test": net(name, f"{about}: softmax.", data, backbone, heads.softmax("ip1", 10)),
            f"mnist/{first}_solver": solvers.lenet_plus_plus(first),
            f"mnist/{then}_train_test": net(name, finetuning, data, backbone, head),
            f"mnist/{then}_solver": solvers.lenet_finetuning(then),
            f"mnist/deploy_{size}d": net(
                name, f"{about}.\nInput: (pixel - 127.5) / 128.", inputs(data=(1, *DIGIT)), backbone
            ),
        }
    return made


def digits() -> dict[str, str]:
    about = "Digits in place of people: a face network in miniature, feature fc5"
    backbone, data = backbones.digits(), training_tiny_digits()
    center, cosine = heads.softmax_and_center("fc5", 7), heads.scaled_cosine_softmax("fc5", 7)
    return {
        "digits/center_train_test": net("DigitsCenter", f"{about}; softmax and center loss.", data, backbone, center),
        "digits/center_solver": solvers.digits_center(),
        "digits/normalized_softmax_train_test": net(
            "DigitsNormFace",
            f"{about}; softmax over s cosine, s learned.\nFor finetuning examples/digits/digits_center.caffemodel.",
            data,
            backbone,
            cosine,
        ),
        "digits/normalized_softmax_solver": solvers.digits_normalized_softmax(),
        "digits/deploy": net(
            "DigitsCenter",
            f"{about}. Takes examples/digits/digits_center.caffemodel.\nInput: (pixel - 8) / 8, pixels 0 to 16.",
            inputs(data=(1, *TINY_DIGIT)),
            backbone,
        ),
    }


def face_input(mean: float) -> str:
    return f"Input: BGR, (pixel - {mean:g}) / 128."


def training_faces(mean: float) -> Layers:
    options = {"mean": mean, "scale": 1 / 128, "mirror": True}
    return [images("TRAIN", FACE, 256, **options), images("TEST", FACE, 100, **options)]


def training_digits() -> Layers:
    options = {"mean": 127.5, "scale": 1 / 128, "mirror": False}
    return [images("TRAIN", DIGIT, 128, **options), images("TEST", DIGIT, 100, **options)]


def training_tiny_digits() -> Layers:
    """Of images that people can look at: their pixels are 15 times the 0 to 16 of scikit-learn's digits."""
    options = {"mean": 15 * 8, "scale": 1 / (15 * 8), "mirror": False}
    return [images("TRAIN", TINY_DIGIT, 64, **options), images("TEST", TINY_DIGIT, 35, **options)]
