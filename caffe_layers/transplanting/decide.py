"""What becomes of each layer in a tree."""

from .errors import Refused
from .layers import Layer, Layers
from .proto import Field, File
from .registry import Registration
from .tree import Tree

ADDED = "added"
BESIDE = "added beside the tree's"
REPLACED = "added in place of the tree's"
KEPT = "kept: the tree's own"
ALL = "all"


class Facts:
    """What a tree declares and registers."""

    def __init__(self, tree: Tree) -> None:
        tree.check()
        self.tree = tree
        self.proto: File = tree.proto()
        self.registered: dict[str, list[Registration]] = tree.registered()

    def field(self, message: str, name: str) -> "Field | None":
        found = self.proto.message(message)
        return found.field(name) if found else None

    def has_field(self, name: str) -> bool:
        message, _, field = name.partition(".")
        return self.field(message, field) is not None

    def has_stock_class(self, layer: Layer) -> bool:
        field = f"LayerParameter.{layer.stock_field}"
        return (not layer.stock_field or self.has_field(field)) and self.tree.declares(
            layer.stock_header, f"{layer.type}Layer"
        )


class Decisions:
    """``actions`` has one of the words above for every layer type, ``notes`` what the user should know of them."""

    def __init__(self, facts: Facts, layers: Layers, replace: "set[str]") -> None:
        self.facts, self.replace = facts, replace
        self.notes: list[str] = []
        types = [layer.type for layer in layers.layers]
        unknown = sorted(replace - {ALL, *types})
        if unknown:
            raise Refused(f"--replace {unknown[0]}: expected {ALL} or one of {', '.join(types)}")
        self.actions = {layer.type: self.decide(layer) for layer in layers.layers}

    def decide(self, layer: Layer) -> str:
        registrations = self.facts.registered.get(layer.type, [])
        if layer.stock and not registrations and not layer.stock_optional:
            raise Refused(
                f"{self.facts.tree.root} has no layer of type {layer.type}: it is older than BVLC Caffe of January"
                " 2016, and the face layers build on that one; merge a later BVLC Caffe first"
            )
        if not registrations:
            return ADDED
        if not layer.stock or self.is_own(layer):
            return self.keep_or_replace(layer, registrations)
        first = registrations[0]
        if len(registrations) > 1 or not first.by_class:
            how = "more than once" if len(registrations) > 1 else "by a creator of its own"
            raise Refused(
                f"{first.path} registers {layer.type} {how}; expected one REGISTER_LAYER_CLASS({layer.type}), as in"
                " BVLC Caffe, for the face layers to put their creator in its place"
            )
        if not self.facts.has_stock_class(layer):
            raise Refused(
                f"{layer.stock_header} does not declare a class {layer.type}Layer; the face layers build on that one,"
                " as BVLC Caffe has it"
            )
        return BESIDE

    def is_own(self, layer: Layer) -> bool:
        """The tree's class has the features of ours, or is another one than the class that ours goes with."""
        if layer.stock_field and not self.facts.has_field(f"LayerParameter.{layer.stock_field}"):
            return True
        return all(self.facts.has_field(feature) for feature in layer.features)

    def may_overwrite(self, layer: Layer) -> bool:
        return bool(self.replace & {ALL, layer.type})

    def keep_or_replace(self, layer: Layer, registrations: "list[Registration]") -> str:
        if not self.may_overwrite(layer):
            return KEPT
        problem = self.why_not_replaceable(layer, registrations)
        if not problem:
            return REPLACED
        if layer.type in self.replace:
            raise Refused(f"{layer.type} can't be replaced: {problem}; take the tree's own out by hand first")
        self.notes.append(f"{layer.type} is kept in spite of --replace {ALL}: {problem}")
        return KEPT

    def why_not_replaceable(self, layer: Layer, registrations: "list[Registration]") -> str:
        """Our files go where the tree's are only if those have the very names, and hold nothing else."""
        for registration in registrations:
            if registration.path not in layer.sources:
                return f"{registration.path} registers it, and the face layers' file is {layer.sources[1]}"
            for found in self.facts.registered.values():
                for other in found:
                    if other.path == registration.path and other.type != layer.type:
                        return f"{registration.path} registers {other.type} too"
        if self.facts.tree.find(layer.header) is None:
            return f"{registrations[0].path} has its class from another header than {layer.header}"
        return ""
