"""Names that nothing else has."""

from __future__ import annotations

from collections.abc import Iterable


class Names:
    """The names that are taken. ``take`` gives a free one, in constant time however many want the same."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._numbers: dict[str, int] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._taken

    def reserve(self, names: Iterable[str]) -> None:
        """Give these names to nobody else."""
        self._taken.update(names)

    def take(self, wanted: str) -> str:
        """Return ``wanted``, or with ``_2``, ``_3`` … behind it, such that nothing has it; now it is taken."""
        name, number = wanted, self._numbers.get(wanted, 1)
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._numbers[wanted] = number
        self._taken.add(name)
        return name
