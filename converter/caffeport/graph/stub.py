"""A beginning for the operators that a net needs and nothing has: Python text, a class for each unknown type."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator, Sequence

from ..errors import NetError, name_list, one_line
from ..formats.prototxt import Message, Scalar
from ..naming import Names
from ..operators import registry
from ..operators.base import Operator
from ..operators.python_layer import PREFIX, PYTHON, python_class
from .net_fields import GENERIC_FIELDS
from .unknown import title, unknown_layers

_HEAD = '''"""Layers of {source}: say what each computes.

caffeport show NET --layers THIS_FILE
"""

from __future__ import annotations

from dataclasses import dataclass, field

import caffeport
from caffeport.formats.schema import Word
from caffeport.operators.base import Role

# A field's type: int, float, bool, str, another dataclass, list[...] for a repeated one; Word takes any word.
'''

_CLASS = '''

@caffeport.layer_type({type})
class {name}(caffeport.Operator):
    """Say the formula here."""

{comments}    schemas = {schemas}
    bottoms = {bottoms}  # how many it reads: at least, at most
    tops = {tops}
{role}
    def top_shapes(self, bottoms):
        """Return the shape of every top, from those of the bottoms, all of them tuples."""
        self.fail("its top_shapes is not written yet")  # return [bottoms[0]]

    def module(self, bottoms):
        """Return the torch module; its forward takes the bottoms and returns the top, or a list of them."""
        self.fail("its module is not written yet")

    def onnx(self, g, *x):
        """Emit ONNX operators; return the top, or a list of them."""
        g.refuse("its onnx is not written yet")  # return g.op("Relu", x[0])
'''


def stub(layers: Sequence[Message]) -> str:
    """Write a Python file with an operator for each type among these layers; it loads as it is, and refuses every
    net."""
    kinds: dict[str, list[Message]] = {}
    for layer in layers:
        kinds.setdefault(title(layer), []).append(layer)
    names = Names(("Role", "Word", "caffeport", "dataclass", "field"))
    source = one_line(layers[0].source, 200).replace("\\", "\\\\").replace('"', "'")
    return _HEAD.format(source=source) + "".join(_class(same, names) for same in kinds.values())


def _class(layers: Sequence[Message], names: Names) -> str:
    """Write the parameters' dataclasses and the operator of layers of one type."""
    first = layers[0]
    module, python = python_class(first)
    kind = f"{PREFIX}{module}.{python}" if first.text("type") == PYTHON else first.text("type")
    own: dict[str, list[Message]] = {}
    for layer in layers:
        for entry in layer.fields:
            named = isinstance(entry.value, Message) and entry.name not in GENERIC_FIELDS
            if named and entry.name.isidentifier() and entry.name != "python_param":
                own.setdefault(entry.name, []).append(entry.value)  # type: ignore[arg-type]
    text, schemas = "", []
    for name, messages in own.items():
        schema, lines = _dataclass(name, messages, names)
        text += lines
        schemas.append(f"{name!r}: {schema}".replace("'", '"'))
    loss = "loss" in kind.lower()
    return text + _CLASS.format(
        type='"' + one_line(kind, 200).replace("\\", "\\\\").replace('"', '\\"') + '"',
        name=names.take(_word(python or kind)),
        comments="".join(f"    # {one_line(comment, 600)}\n" for comment in _comments(layers)),
        schemas="{" + ", ".join(schemas) + "}",
        bottoms=_counts(layers, "bottom"),
        tops=_counts(layers, "top"),
        role="    role = Role.LOSS\n" if loss else "",
    )


def _comments(layers: Sequence[Message]) -> Iterator[str]:
    """Write what the text says of the first of these layers, and what it gives Python's class to read, as comments."""
    first = layers[0]
    reads, makes = (name_list(first.texts(name), 6) for name in ("bottom", "top"))
    yield f"{first.where()}: reads {reads}, makes {makes}"
    texts = [parameters.text("param_str") for layer in layers for parameters in layer.messages("python_param")]
    for text in dict.fromkeys(filter(None, texts)):
        yield f'self.context.messages["python_param"].param_str is {text!r}'


def _dataclass(name: str, messages: Sequence[Message], names: Names) -> tuple[str, str]:
    """Return (name, text) of the schema of a message, with all that these examples of it have."""
    schema = names.take(_word("".join(part.capitalize() for part in name.split("_"))))
    values: dict[str, list[Scalar | Message]] = {}
    repeated: set[str] = set()
    for message in messages:
        for entry in message.fields:
            if entry.name.isidentifier() and not keyword.iskeyword(entry.name):
                values.setdefault(entry.name, []).append(entry.value)
                if len(message.named(entry.name)) > 1:
                    repeated.add(entry.name)
    before, lines = "", []
    for field, examples in values.items():
        inner = [example for example in examples if isinstance(example, Message)]
        scalars = [example for example in examples if isinstance(example, Scalar)]
        if inner:
            kind, text = _dataclass(field, inner, names)
            before += text
            shown = ""
        else:
            kind = _kind(scalars)
            shown = "  # here " + one_line(", ".join(dict.fromkeys(one.text for one in scalars)), 60)
        if field in repeated:
            lines.append(f"    {field}: list[{kind}] = field(default_factory=list){shown}\n")
        else:
            lines.append(f"    {field}: {kind} | None = None{shown}\n")
    body = "".join(lines) or "    pass\n"
    return schema, f"{before}\n\n@dataclass\nclass {schema}:\n{body}"


def _kind(values: Sequence[Scalar]) -> str:
    written = {value.kind for value in values}
    if written == {"string"}:
        return "str"
    if written == {"word"}:
        return "bool" if all(value.text in ("true", "false") for value in values) else "Word"
    if written == {"number"}:
        return "int" if all(re.fullmatch(r"[-+]?\d+", value.text) for value in values) else "float"
    return "Word"


def _counts(layers: Sequence[Message], name: str) -> str:
    counts = [len(layer.named(name)) for layer in layers]
    return f"({min(counts)}, {max(counts)})"


def _word(text: str) -> str:
    """Return the text as the name of a class."""
    name = re.sub(r"\W", "", text, flags=re.ASCII)
    return name if name.isidentifier() and not keyword.iskeyword(name) else f"Layer{name}"


def stub_of_text(net: Message, custom: Sequence[type[Operator]] = ()) -> str:
    """Write the stub of every type in a net's upgraded text that neither caffeport nor ``custom`` knows, in any
    phase."""
    layers = unknown_layers(net.messages("layer"), registry(custom))
    if not layers:
        raise NetError(f"{net.source}: every layer's type is known, so that there is no operator to begin")
    return stub(layers)
