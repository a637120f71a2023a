"""The number of processor cores that this process may use."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Return the number of cores that this process may run on, at least 1.

    That is fewer than the machine has where a batch system, ``taskset`` or a container pins the process to some of
    them; as many threads as the machine has cores would then wait for each other.
    """
    if hasattr(os, "process_cpu_count"):  # Python 3.13; PYTHON_CPU_COUNT and -X cpu_count count as well
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
