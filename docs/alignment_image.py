"""Makes docs/alignment.jpg: faces found in photos and aligned. ``python docs/alignment_image.py [--mtcnn DIR]``

The photos are in the public domain (NASA, the US Navy) and come with scikit-image and matplotlib.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import skimage
from normface.alignment import Detector, align_face, draw_faces

PHOTOS = (
    Path(skimage.__file__).parent / "data" / "astronaut.png",
    Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg",
)
HEIGHT, GAP = 360, 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mtcnn", help="folder of MTCNN's Caffe files")
    detector = Detector(parser.parse_args().mtcnn)
    columns = []
    for path in PHOTOS:
        image = cv2.imread(str(path))
        faces = detector.detect(image)
        columns.append(scaled(draw_faces(image, faces.boxes, faces.landmarks)))
        columns += [scaled(align_face(image, points)) for points in faces.landmarks]
    white = np.full((HEIGHT, GAP, 3), 255, np.uint8)
    row = np.hstack([part for column in columns for part in (column, white)][:-1])
    cv2.imwrite(str(Path(__file__).with_name("alignment.jpg")), row, [cv2.IMWRITE_JPEG_QUALITY, 88])


def scaled(image: np.ndarray) -> np.ndarray:
    width = round(image.shape[1] * HEIGHT / image.shape[0])
    return cv2.resize(
        image, (width, HEIGHT), interpolation=cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_CUBIC
    )


if __name__ == "__main__":
    main()
