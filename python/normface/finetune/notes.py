"""What a reader of the figures has to know: where the people compared are too few, or too easy, to tell much."""

from __future__ import annotations

from collections.abc import Mapping

from ..evaluate.roc import impostors_accepted
from .figures import Measured
from .validation import Validation

ENOUGH = 30
"""Doddington's rule of 30: fewer errors than that put the true rate further than 30 % off, one time in ten."""
FEW_PEOPLE = 20
"""A bootstrap over fewer people than about this gives intervals that are too narrow."""


def counted(validation: Validation | None) -> dict[str, int]:
    """What is compared, images that could not be read left out; zeros without validation."""
    impostors = validation.impostor if validation else 0
    return {
        "identities": validation.identities if validation else 0,
        "pictures": validation.images if validation else 0,
        "genuine_pairs": validation.genuine if validation else 0,
        "impostor_pairs": impostors,
        "impostors_accepted": impostors_accepted(validation.far, impostors) if validation else 0,
    }


def about(name: str, held: Mapping[str, int], far: float, before: Measured | None) -> list[str]:
    """The notes on people called ``name``: ``held`` as ``counted`` has it; before: the net as it was given."""
    if not held["identities"]:
        return []
    notes = []
    accepted, impostors = held["impostors_accepted"], held["impostor_pairs"]
    if accepted < ENOUGH:
        least = ENOUGH / impostors
        way_out = f"they carry --val-far {least:.2g} or more" if least < 0.5 else "no rate can be told from so few"
        notes.append(
            f"{name}: FAR {100 * far:g} % lets in {accepted:,} of {impostors:,} impostor pairs, and below {ENOUGH} "
            f"the true accepts hang on a few of them; {way_out}, and more people a lower one"
        )
    if held["identities"] < FEW_PEOPLE:
        notes.append(f"{name}: an interval over {held['identities']} people is too narrow; {FEW_PEOPLE} are the least")
    if before is not None and before.tar == 1:
        notes.append(
            f"{name}: 100 % of the genuine pairs were accepted before any training, so these people cannot show a "
            "gain; harder ones, or a lower --val-far, would"
        )
    return notes
