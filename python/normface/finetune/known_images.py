"""Which images, or people by name, that are to tell how good a model is were seen by it before."""

from __future__ import annotations

import os
import warnings

from ..data import Reader
from ..errors import NormfaceWarning


def warn_of_known(option: str, others: Reader, earlier: Reader, use: str) -> None:
    """Tell where the images of an option, or its people by name, are among earlier ones, of that ``use``."""
    known = known_in(option, others, earlier, use)
    if known:
        warnings.warn(f"{known}: it will look better than it is", NormfaceWarning, stacklevel=5)


def trained_on(others: Reader, training: Reader) -> str:
    """Return in words which images of --val, or people by name, are trained on as well; "" where none are."""
    return known_in("--val", others, training, "trained on")


def known_in(option: str, others: Reader, earlier: Reader, use: str) -> str:
    """Return in words which images of an option, or people by name, are among earlier ones; "" where none are."""
    known = _files(others) & _files(earlier)
    shared = set(others.identities) & set(earlier.identities)
    if known:
        what, first = f"{len(known)} of {len(others)} images", min(known)
    elif shared and not all(name.isdigit() for name in shared):  # numbers of two lists mean nothing
        what, first = f"{len(shared)} identities", min(shared)
    else:
        return ""
    return f"{what} of {option} are {use} as well, such as {first}"


def _files(images: Reader) -> set[str]:
    """Return where each image is: its file, or its name behind that of the database that holds it."""
    folder = os.path.realpath(images.path)
    return {os.path.normpath(os.path.join(folder, name)) for name in images.names}
