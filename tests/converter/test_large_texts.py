"""Texts of twenty thousand layers: what loading them takes grows with their length, not with its square."""

from __future__ import annotations

import time

import caffeport
import pytest

LAYERS = 20_000
SECONDS = 5.0
"""Of processor time: a line takes some 30 microseconds, 0.6 s in all; pairs of lines would take minutes."""
DATA = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 4 } } }\n'


def layer(name: str, kind: str, bottom: str, top: str, more: str = "") -> str:
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" {more} }}\n'


def in_place_behind_a_view(number: int) -> str:
    return layer("view", "Flatten", "data", "x") if number == 0 else layer(f"r{number}", "ReLU", "x", "x")


def behind_another_phase(number: int) -> str:
    bottom = f"t{number - 1}" if number else "data"
    return layer(f"t{number}", "TanH", bottom, f"t{number}", "include { phase: TRAIN }" if number % 2 else "")


def views_in_place(number: int) -> str:
    if number % 2 == 0:
        return layer(f"view{number}", "Flatten", "data", f"x{number}")
    return layer(f"r{number}", "ReLU", f"x{number - 1}", f"x{number - 1}")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::caffeport.CaffeportWarning")
@pytest.mark.parametrize("line", [in_place_behind_a_view, behind_another_phase, views_in_place])
@pytest.mark.parametrize("phase", ["TEST", "TRAIN"])
def test_time_is_in_proportion(line, phase, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(DATA + "".join(map(line, range(LAYERS))) + layer("end", "Power", "data", "end"))
    before = time.process_time()
    net = caffeport.load(path, phase=phase)
    assert time.process_time() - before < SECONDS
    assert len(net.layers) > LAYERS // 2
