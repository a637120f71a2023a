"""Makes docs/proof.png: the page of ``caffeport check --report`` with a layer open. ``python docs/proof_image.py``

Needs chromium (Debian's package).
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import caffeport
import cv2
from caffeport.page import document

HERE = Path(__file__).parent
DIGITS = HERE.parent / "examples" / "digits"
LAYER = "conv2_1"
WIDTH, HEIGHT = 1180, 750
MOST_BYTES = 200_000


def main() -> None:
    net = caffeport.load(DIGITS / "deploy.prototxt", DIGITS / "digits_center.caffemodel")
    report = caffeport.check(net, reference=DIGITS / "digits_center_blobs.npz")
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder) / "proof.html", Path(folder) / "proof.png"
        document.write(net, page, report)
        switches = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
        switches += [f"--user-data-dir={folder}/profile", f"--window-size={WIDTH},{HEIGHT + 200}"]
        switches += ["--virtual-time-budget=20000", f"--screenshot={shot}"]
        command = ["chromium", *switches, f"{page.as_uri()}#{LAYER}"]
        subprocess.run(command, capture_output=True, timeout=120, check=True)
        image = cv2.imread(str(shot))[:HEIGHT]
    encoded = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()
    if len(encoded) > MOST_BYTES:
        raise SystemExit(f"docs/proof.png would have {len(encoded)} bytes; at most {MOST_BYTES} go into the repository")
    (HERE / "proof.png").write_bytes(encoded)


if __name__ == "__main__":
    main()
