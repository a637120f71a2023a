"""Run pytest with these arguments, as ``make test`` does: after Ctrl-C it ends in a line, whatever was being done.

pytest itself may show a traceback then, of a fixture that was half set up.
"""

import os
import signal
import sys
from types import FrameType


def main() -> int:
    interrupted = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in the background
        signal.signal(signal.SIGINT, note)
    code: int = 0
    try:
        import pytest

        code = pytest.main(sys.argv[1:])
    except BaseException:
        if not interrupted:
            raise
    if interrupted:
        print("\ninterrupted", flush=True)
        os._exit(130)  # threads and processes of the test that was running are nobody's any more
    return code


if __name__ == "__main__":
    sys.exit(main())
