"""Text fields to typed dataclasses: a message's schema is a dataclass with Caffe's names and defaults.

Field types: ``int``, ``float``, ``bool``, ``str``, an ``Enum`` (members named and numbered as in
caffe.proto), another such dataclass, ``X | None`` for "unset is different from the default", and
``list[X]`` for repeated fields, and ``Message`` for one whose content is for others to read.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import keyword
import types
import typing
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import CaffeportWarning, PrototxtError, did_you_mean, quoted
from .no_effect import changes_nothing
from .prototxt import Field, Message, Scalar

T = TypeVar("T")

if TYPE_CHECKING:
    from dataclasses import dataclass as schema
else:

    def schema(cls):
        """Make the class a dataclass whose fields all have defaults, and whose methods are no code of its own.

        ``dataclass`` writes and compiles three methods a class, which takes a tenth of a millisecond each: with some 25
        classes a net, as long as all else of reading its text. Here they are the same for all classes.
        """
        cls.__doc__ = cls.__doc__ or f"{cls.__name__}, with Caffe's names and defaults."  # else dataclass makes one
        cls = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
        fields = dataclasses.fields(cls)
        defaults = {entry.name: entry.default for entry in fields}
        makers = [(entry.name, entry.default_factory) for entry in fields if entry.default is dataclasses.MISSING]

        def __init__(self, *in_order, **given):
            if in_order:
                given.update(zip(defaults, in_order, strict=False))
            state = defaults.copy()
            for name, make in makers:
                if name not in given:
                    state[name] = make()
            state.update(given)
            self.__dict__ = state
            if len(state) != len(defaults):
                unknown = given.keys() - defaults.keys()
                raise TypeError(f"{cls.__name__} has no field {', '.join(sorted(unknown))}")

        cls.__init__, cls.__repr__, cls.__eq__, cls.__hash__ = __init__, _repr, _equal, None
        return cls

    def _repr(self):
        return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    def _equal(self, other):
        return vars(self) == vars(other) if type(other) is type(self) else NotImplemented


class Word(str):
    """A field whose value changes nothing here (``engine``): any word, string or number will do."""


def tell_ignored(message: Message, entry: Field, title: str) -> None:
    """Tell, as a CaffeportWarning with file:line:column, that a field of the message is ignored."""
    warnings.warn(
        f'{message.where(entry)}: ignored the unknown field "{entry.name}" of {title}',
        CaffeportWarning,
        stacklevel=4,
    )


_BOOLS = {"true": True, "t": True, "True": True, "1": True, "false": False, "f": False, "False": False, "0": False}


@functools.cache
def field_types(cls: type) -> dict[str, tuple[Any, bool]]:
    """Return {field name: (type of one value, repeated?)} of a schema dataclass.

    A field whose name is a word of Python's has an underscore behind it in the dataclass (``lambda_``).
    """
    hints = typing.get_type_hints(cls)
    resolved = {}
    for entry in dataclasses.fields(cls):
        kind, repeated = hints[entry.name], False
        if typing.get_origin(kind) is list:
            kind, repeated = typing.get_args(kind)[0], True
        elif isinstance(kind, types.UnionType):
            kind = next(arg for arg in typing.get_args(kind) if arg is not types.NoneType)
        resolved[_text_name(entry.name)] = (kind, repeated)
    return resolved


@functools.cache
def _readers(cls: type) -> dict[str, tuple[str, Any, bool, dict[str, Callable[[str], Any]]]]:
    """Return {field name: (attribute, type of one value, repeated?, {how a value is written: how its text is read})}.

    The last has what needs no further look; _value reads all else.
    """
    return {
        name: (_attribute(name), kind, repeated, _plain_readers(kind))
        for name, (kind, repeated) in field_types(cls).items()
    }


def _plain_readers(kind: Any) -> dict[str, Callable[[str], Any]]:
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"word": kind.__members__.__getitem__}
    return _PLAIN.get(kind, {})


def _text_name(attribute: str) -> str:
    """Return the field's name in a text; one that is a word of Python's own has an underscore behind it
    (``lambda_``)."""
    return attribute[:-1] if keyword.iskeyword(attribute[:-1]) else attribute


def _attribute(name: str) -> str:
    return f"{name}_" if keyword.iskeyword(name) else name


def decode(
    message: Message, cls: type[T], *, title: str, allow_unknown: bool = False, entries: Iterable[Field] | None = None
) -> T:
    """Return the message as an instance of ``cls``.

    entries: decode these fields of the message alone, instead of all.

    Raises PrototxtError, with file:line:column, for a field that ``cls`` lacks (unless
    ``allow_unknown``), a value of the wrong type, or a single field given twice. Every field that is
    ignored on the way is told as a CaffeportWarning; those of ``no_effect`` are passed over silently.
    """
    known = _readers(cls)  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for entry in message.fields if entries is None else entries:
        name, written = entry.name, entry.value
        if name not in known:
            if changes_nothing(title, name):
                continue
            if allow_unknown:
                tell_ignored(message, entry, title)
                continue
            raise PrototxtError(
                f'{message.where(entry)}: {title} has no field "{name}"{did_you_mean(name, known)}; '
                "to read the net without it, allow unknown fields (allow_unknown_fields=True, --allow-unknown-fields)"
            )
        attribute, kind, repeated, readers = known[name]
        text, read = (written.text, readers.get(written.kind)) if isinstance(written, Scalar) else ("", None)
        try:
            value = read(text) if read else _value(message, entry, kind, title, allow_unknown)
        except (KeyError, ValueError):
            value = _value(message, entry, kind, title, allow_unknown)  # which says what is wrong with it
        if attribute not in values:
            values[attribute] = [value] if repeated else value
        elif repeated:
            values[attribute].append(value)
        else:
            raise PrototxtError(f'{message.where(entry)}: "{name}" is given twice in {title}')
    return cls(**values)


def _value(message: Message, entry: Field, kind: Any, title: str, allow_unknown: bool) -> Any:
    def wrong(expected: str) -> PrototxtError:
        value = "a message" if isinstance(entry.value, Message) else quoted(entry.value.text)
        return PrototxtError(f'{message.where(entry)}: "{entry.name}" expects {expected}, got {value}')

    if kind is Message:
        if not isinstance(entry.value, Message):
            raise wrong("a message { ... }")
        return entry.value
    if hasattr(kind, "__dataclass_fields__"):  # dataclasses.is_dataclass, which takes three times as long
        if not isinstance(entry.value, Message):
            raise wrong("a message { ... }")
        return decode(entry.value, typing.cast(type, kind), title=entry.name, allow_unknown=allow_unknown)
    if not isinstance(entry.value, Scalar):
        raise wrong("a value")
    text, written = entry.value.text, entry.value.kind
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        try:
            return kind[text] if written == "word" else kind(int(text, 0))
        except (KeyError, ValueError):
            raise wrong("one of " + ", ".join(kind.__members__)) from None
    if kind is Word:
        return Word(text)
    if kind is str:
        if written != "string":
            raise wrong("a quoted string")
        return text
    if kind is bool:
        if text not in _BOOLS or written == "string":
            raise wrong("true or false")
        return _BOOLS[text]
    if written == "string":
        raise wrong("a number")
    try:
        return _int(text) if kind is int else _float(text)
    except ValueError:
        raise wrong("a whole number" if kind is int else "a number") from None


def scalar_of(text: str, kind: type) -> bool | int | float:
    """Read a field's text as a bool, int or float; raises KeyError or ValueError for what is none."""
    return _BOOLS[text] if kind is bool else _int(text) if kind is int else _float(text)


def _int(text: str) -> int:
    if text.isdecimal() and text.isascii() and len(text) < 19 and (text[0] != "0" or text == "0"):
        return int(text)  # as nearly all are written
    digits = text.lstrip("+-")
    octal = len(digits) > 1 and digits[0] == "0" and digits.isdigit()  # as in C, and in protobuf's text format
    value = int(text, 8 if octal else 0)
    if not -(2**63) <= value < 2**63:
        raise ValueError("beyond int64, caffe.proto's widest")
    return value


def _float(text: str) -> float:
    if text[-1:].isdecimal() and "x" not in text and "X" not in text:
        return float(text)
    if text.lower().lstrip("+-") in ("inf", "infinity", "nan"):
        return float(text)
    return float(_int(text)) if "0x" in text.lower() else float(text.rstrip("fF"))


_PLAIN: dict[Any, dict[str, Callable[[str], Any]]] = {
    str: {"string": str},
    Word: {"word": Word, "string": Word},
    bool: {"word": _BOOLS.__getitem__},
    int: {"number": _int},
    float: {"number": _float},
}
"""{a field's type: {how its value is written: how it is read}}, of what needs no further look."""
