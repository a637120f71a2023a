"""What a tree's files become."""

from typing import NamedTuple

from . import own_class, own_creator, two_types
from .decide import ADDED, BESIDE, KEPT, LEFT_OUT, REPLACED, Decisions, Facts
from .errors import Refused
from .filler import with_filler
from .kept import otherwise
from .layers import Layer, Layers, MessageText, declared
from .merge import Merged, Placed, merge
from .old_headers import forwarding
from .registry import registrations, without
from .source_text import decode, encode
from .tree import CONFIG, FILLER, PROTO, Tree

TEST_MAIN = "src/caffe/test/test_caffe_main.cpp"
GENERATED = ("src/caffe/proto/caffe.pb.h", "include/caffe/proto/caffe.pb.h")


class Row(NamedTuple):
    """A layer, what happens to it, and the fields by which a net speaks to it."""

    type: str
    action: str
    fields: "list[Placed]"


class Plan(NamedTuple):
    rows: "list[Row]"
    files: "dict[str, bytes]"
    """The tree's files that are new or other than before the face layers came."""
    numbers: "dict[str, int]"
    """Of the fields that are added: Message.field -> number."""
    notes: "list[str]"


class Choices(NamedTuple):
    """What the user chose, now and in earlier runs."""

    tests: bool
    replace: "set[str]"
    without: "set[str]"


def make(tree: Tree, layers: Layers, choices: Choices, earlier: "dict[str, int]") -> Plan:
    """Raises Refused for a tree that it does not understand. ``earlier`` are the numbers of an earlier transplant."""
    facts = Facts(tree)
    decisions = Decisions(facts, layers, choices.replace, choices.without)
    return _Planner(facts, layers, decisions).plan(choices.tests, earlier)


class _Planner:
    def __init__(self, facts: Facts, layers: Layers, decisions: Decisions) -> None:
        self.facts, self.tree, self.layers, self.decisions = facts, facts.tree, layers, decisions
        self.actions = decisions.actions
        self.placed = [layer for layer in layers.layers if self.actions[layer.type] not in (KEPT, LEFT_OUT)]
        self.notes = list(decisions.notes) + otherwise(facts, self.actions)
        self.files: dict[str, bytes] = {}

    def plan(self, tests: bool, earlier: "dict[str, int]") -> Plan:
        merged = merge(self.tree.text(PROTO), PROTO, self.messages(), earlier)
        self.put(PROTO, encode(merged.text))
        if self.placed:
            self.fillers()
            self.put(CONFIG, self.config().encode())
            for path, text in forwarding(self.tree).items():
                self.put(path, text.encode())
            for path in [*self.layers.shared, *(two_types.HEADERS if self.tree.has_two_types() else ())]:
                self.put_new(path, REPLACED in self.actions.values(), "--replace all")
        for layer in self.placed:
            overwrite = self.decisions.may_overwrite(layer)
            for path in layer.sources:
                self.put_new(path, overwrite, f"--replace {layer.type}")
            if self.actions[layer.type] == BESIDE or self.is_unregistered(layer):
                self.choose(layer)
            for path in self.decisions.moved.get(layer.type, []):
                self.put(path, own_class.moved(path, layer.header, layer.type).encode())
        if tests and self.placed:
            self.tests()
        rows = [Row(layer.type, self.actions[layer.type], self.fields(layer, merged)) for layer in self.layers.layers]
        self.explain(merged, rows)
        numbers = {f"{place.message}.{place.name}": place.number for place in merged.placed if place.added}
        return Plan(rows, self.files, numbers, self.notes)

    def is_unregistered(self, layer: Layer) -> bool:
        """Of a type that Caffe has, the tree's own class stays where it is, and nothing makes one any more."""
        paths = [registration.path for registration in self.facts.registered.get(layer.type, [])]
        return self.actions[layer.type] == REPLACED and layer.stock is not None and not {*paths} <= {*layer.sources}

    def choose(self, layer: Layer) -> None:
        """Ours chooses between the tree's class and ours, in the place of the tree's own registration."""
        path = self.facts.registered[layer.type][0].path
        creator, chooser = self.decisions.creators.get(layer.type), f"{layer.name}_layer.cpp"
        text = decode(self.files[path]) if path in self.files else self.tree.text(path)
        registration = next(found for found in registrations(text, path) if found.type == layer.type)
        if not creator:
            self.put(path, encode(without(text, registration, chooser)))
            return
        self.put(path, encode(own_creator.unregistered(text, registration, creator, chooser)))
        source = layer.sources[1]
        ours = own_creator.asking(self.decisions.our_text(source), f"{layer.type}Layer", creator, path)
        assert ours, source
        self.put(source, encode(ours))

    def put(self, path: str, content: bytes) -> None:
        if content != self.tree.find(path):
            self.files[path] = content

    def ours(self, path: str) -> bytes:
        """A file of ours as this tree needs it."""
        content = self.layers.read(path)
        if not self.tree.has_two_types() or path in two_types.HEADERS:
            return content
        return encode(two_types.rewritten(decode(content), path))

    def put_new(self, path: str, overwrite: bool, option: str) -> None:
        content = self.ours(path)
        there = self.tree.find(path)
        if there is not None and there != content and not overwrite:
            raise Refused(
                f"{path} is in the tree already, and is another file than the face layers'; rename it, or {option} to"
                " overwrite it (--revert brings it back)"
            )
        self.put(path, content)

    def messages(self) -> "list[MessageText]":
        """What the messages of caffe.proto should have for the layers that are put in."""
        wanted = []
        for layer in self.placed:
            if self.actions[layer.type] == ADDED:
                wanted += declared(layer.alone)
        names = [name for layer in self.placed for name in layer.messages] + self.layers.other_messages
        fields = [layer.field for layer in self.placed]
        other_names = self.decisions.other_names
        for name, text in self.layers.messages.items():
            if name == "LayerParameter":
                wanted.append(
                    text._replace(
                        fields=[
                            field
                            for field in text.fields
                            if field.field.name in fields and field.field.plain_type not in other_names
                        ]
                    )
                )
            elif name in names:
                wanted.append(text._replace(name=other_names.get(name, name)))
        joined: dict[str, MessageText] = {}
        for text in wanted:
            first = joined.get(text.name)
            joined[text.name] = text._replace(fields=[*first.fields, *text.fields]) if first else text
        return list(joined.values())

    def fillers(self) -> None:
        for name, path in self.layers.fillers.items():
            class_text = decode(self.layers.read(path)).replace("\r\n", "\n")
            if self.tree.has_two_types():
                class_text = two_types.filler(class_text)
            text = with_filler(self.tree.text(FILLER), FILLER, name, class_text)
            if text is None:
                self.notes.append(f"the filler {name} is the tree's own")
            else:
                self.put(FILLER, encode(text))

    def config(self) -> str:
        """The header that tells our sources what the tree has."""
        macros = []
        for layer in self.layers.layers:
            if layer.stock and layer.stock_optional and self.facts.has_stock_class(layer):
                macros.append(f"CAFFE_FACE_STOCK_{layer.stock.upper()}")
        macros += [macro for macro, field in self.layers.field_macros.items() if self.facts.has_field(field)]
        lines = [
            "#ifndef CAFFE_FACE_LAYERS_CONFIG_HPP_",
            "#define CAFFE_FACE_LAYERS_CONFIG_HPP_",
            "",
            "// Written by normface's transplant.py: what this tree has of its own, for the face layers' sources.",
            *[f"#define {macro}" for macro in macros],
            "",
            "#endif  // CAFFE_FACE_LAYERS_CONFIG_HPP_",
        ]
        return "\n".join(lines) + "\n"

    def tests(self) -> None:
        if self.tree.find(TEST_MAIN) is None:
            self.notes.append(f"the layers' tests are left out: the tree has no {TEST_MAIN}")
            return
        if self.tree.has_two_types():
            self.notes.append("the layers' tests are left out: they are written for the Layer<Dtype> of BVLC Caffe")
            return
        for layer in self.placed:
            for path in layer.tests:
                self.put_new(path, self.decisions.may_overwrite(layer), f"--no-tests, or --replace {layer.type}")

    def fields(self, layer: Layer, merged: Merged) -> "list[Placed]":
        """In the tree as it will be, with the layer's field of LayerParameter or, where Caffe has that, those in it."""
        names = []
        if layer.field:
            names.append(("LayerParameter", layer.field))
        else:
            alone = declared(layer.alone) if self.actions[layer.type] == ADDED else []
            texts = alone + [self.layers.messages[name] for name in layer.messages]
            names += [(text.name, field.field.name) for text in texts for field in text.fields]
        placed = {(place.message, place.name): place for place in merged.placed}
        for message, name in names:
            there, ours = self.facts.field(message, name), self.layers.proto.message(message)
            wanted = ours.field(name) if ours else None
            if (message, name) not in placed and there:
                number = wanted.number if wanted else there.number
                placed[message, name] = Placed(message, name, there.number, number, False, "")
        return [placed[name] for name in names if name in placed]

    def explain(self, merged: Merged, rows: "list[Row]") -> None:
        shown = [place for row in rows for place in row.fields]
        for place in dict.fromkeys([*merged.placed, *shown]):
            if place.number == place.wanted:
                continue
            if place.added:
                why = f"as {place.wanted} is taken by {place.instead_of}"
            else:
                why = f"the tree's own; elsewhere it is {place.wanted}"
            self.notes.append(f"{place.message}.{place.name} has the number {place.number} here, {why}")
        self.notes += merged.notes
        if not self.files:
            return
        for layer in self.placed:
            if self.actions[layer.type] == REPLACED:
                moved = self.decisions.moved.get(layer.type, [])
                for header in [layer.header, *(path for path in moved if path.startswith("include/"))]:
                    others = set(self.tree.includers(header)) - {*layer.sources, *layer.tests, *moved}
                    self.notes += [f"{path} includes {header}, which is another now" for path in sorted(others)]
        for path in GENERATED:
            if self.tree.find(path) is not None:
                self.notes.append(f"{path} is made from caffe.proto: have protoc make it anew if the build does not")
        for project in sorted(self.tree.root.glob("windows/**/*.vcxproj")):
            if b"_layer.cpp" in project.read_bytes():
                name = project.relative_to(self.tree.root).as_posix()
                self.notes.append(f"{name} lists its sources by name: add those above to it")
