"""A rank that launch.py started: the same training, which writes nothing and leaves all words to the leading rank."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback

from caffeport.cli.command import BAD_INPUT, DONE, FAILED, INTERRUPTED

from ..ending import end_now
from ..errors import CaffeportError, LostRankError
from ..interrupts import STOPS, Interrupts
from .config import Config
from .launch import BROKEN, GRACE, way_out


def main() -> int:
    """The exit code; what went wrong goes to the pipe that was this process's standard output."""
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prints, prints among the notes
    order = json.loads(sys.stdin.readline() or "null")
    if order is None:
        return FAILED
    config = Config.from_settings(order["config"])
    threading.Thread(target=_end_with_the_leader, args=(order["leader"], config), daemon=True).start()
    try:
        from .recipe import finetune

        with Interrupts(ready=False, last_words="") as should_stop:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
            finetune(config, resume=order["resume"], overwrite=order["overwrite"], should_stop=should_stop)
        return DONE
    except LostRankError:
        time.sleep(GRACE)  # if it is the leading rank that is gone, the thread tells so and ends this process
        return BROKEN
    except KeyboardInterrupt:
        return INTERRUPTED
    except CaffeportError as error:
        report = {"expected": True, "problem": str(error)}
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
        report = {"expected": False, "problem": words, "traceback": traceback.format_exc()}
    said.write(json.dumps(report))
    said.close()
    return BAD_INPUT


def _end_with_the_leader(leader: int, config: Config) -> None:
    sys.stdin.read()
    words = f"the leading rank (process {leader}) is gone; {way_out(config)}"
    end_now(words if os.environ["LOCAL_RANK"] == "1" else "", FAILED)


if __name__ == "__main__":
    os._exit(main())  # at once: the others may be gone, and nothing is left to write
