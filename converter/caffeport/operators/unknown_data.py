"""A data layer of a type that nobody told of: it reads no blob, so that what it makes are inputs of the net."""

from __future__ import annotations

import re

from ..formats.prototxt import Message, Scalar
from .data import DataLayer, PartialShape
from .python_layer import PYTHON, python_class

_SIZES = re.compile(r"batch_?size|(new|crop|short|long|image|img)_?\w*|height|width|channels|dim|side", re.IGNORECASE)
_MOST = 6


class UnknownData(DataLayer):
    """A data layer of a fork, or of Python: every top is an input, whose size has to be given"""

    def declared_shapes(self) -> list[PartialShape | None]:
        return [None] * self.context.num_tops

    def source(self) -> str:
        """Return the source that the layer's own messages name, "" for nothing."""
        sources = (message.text("source") for message in self._messages())
        return next((source for source in sources if source), "")

    def whose(self) -> str:
        """Return the words by which a refusal tells what this layer is."""
        if self.type != PYTHON or self.context.text is None:
            return f'the type "{self.type}" is unknown, so that what it makes are inputs; '
        module, name = python_class(self.context.text)
        return f'its Python class "{name}" of module "{module}" is not at hand, so that what it makes are inputs; '

    def sizes(self) -> str:
        """Return the fields of the text that sound like sizes, as it has them."""
        fields = [
            f"{entry.name} {entry.value.text}"
            for message in self._messages()
            for entry in message.fields
            if isinstance(entry.value, Scalar) and entry.value.kind == "number" and _SIZES.fullmatch(entry.name)
        ]
        return ", ".join(fields[:_MOST])

    def _messages(self) -> list[Message]:
        own = self.context.text
        return [] if own is None else [entry.value for entry in own.fields if isinstance(entry.value, Message)]
