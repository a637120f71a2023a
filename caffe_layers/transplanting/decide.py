"""What becomes of each layer in a tree."""

from . import own_class, own_creator
from .errors import Refused
from .layers import Layer, Layers
from .proto import Field, File
from .registry import Registration
from .source_text import decode
from .tree import Tree

ADDED = "added"
BESIDE = "added beside the tree's"
REPLACED = "added in place of the tree's"
KEPT = "kept: the tree's own"
LEFT_OUT = "left out"
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

    def __init__(self, facts: Facts, layers: Layers, replace: "set[str]", without: "set[str]") -> None:
        self.facts, self.layers, self.replace, self.without = facts, layers, replace, without
        self.notes: list[str] = []
        self.creators: dict[str, str] = {}
        """The tree's own creators of types that are put beside: ours ask them."""
        self.moved: dict[str, list[str]] = {}
        """Files of replaced classes, by type, that have other names than ours."""
        self.other_names: dict[str, str] = {}
        """Messages of replaced layers that the tree has by another name: ours -> the tree's."""
        types = [layer.type for layer in layers.layers]
        for option, known in (("--replace", {ALL, *types}), ("--without", set(types))):
            unknown = sorted((replace if option == "--replace" else without) - known)
            if unknown:
                one_of = f"{ALL} or one of" if option == "--replace" else "one of"
                raise Refused(f"{option} {unknown[0]}: expected {one_of} {', '.join(types)}")
        both = sorted(replace & without)
        if both:
            raise Refused(f"{both[0]} is both to be replaced and to be left out; --revert forgets earlier choices")
        caffes_own_first = sorted(layers.layers, key=lambda layer: not layer.stock)
        self.actions = {layer.type: self.decide(layer) for layer in caffes_own_first}

    def decide(self, layer: Layer) -> str:
        if layer.type in self.without:
            return LEFT_OUT
        registrations = self.facts.registered.get(layer.type, [])
        missing = [need for need in layer.needs if not self.facts.has_field(need)]
        if missing and not registrations:
            self.notes.append(f"{layer.type} is left out: it reads {missing[0]}, which this tree is too old to have")
            return LEFT_OUT
        if layer.stock and not registrations and not layer.stock_optional:
            same = [other.type for other in self.layers.layers if not other.field and other.messages == layer.messages]
            raise Refused(
                f"{self.facts.tree.root} has no layer of type {layer.type}: it is older than BVLC Caffe of January"
                " 2016, and the face layers build on that one; merge a later BVLC Caffe first, or go without it:"
                f" {' '.join(f'--without {type_}' for type_ in sorted(same))}"
            )
        if not registrations:
            return self.check_parameters(layer, ADDED)
        if not layer.stock or self.is_own(layer):
            return self.keep_or_replace(layer, registrations)
        problem = self.why_not_beside(layer, registrations)
        if problem:
            raise Refused(f"{problem}; --without {layer.type} leaves ours out")
        return BESIDE

    def check_parameters(self, layer: Layer, action: str) -> str:
        """``action``, if LayerParameter has a field for the layer's parameters, or will have it."""
        for name in [] if layer.field or layer.alone else layer.messages:
            known = self.facts.proto.message("LayerParameter")
            if not known or all(field.plain_type != name for field in known.fields):
                raise Refused(
                    f"{layer.type} reads a {name}, for which LayerParameter has no field here; leave it out too, with"
                    f" --without {layer.type}"
                )
        return action

    def why_not_beside(self, layer: Layer, registrations: "list[Registration]") -> str:
        """Ours goes beside the tree's if one registration of that can be taken out, and its class be made by ours."""
        first = registrations[0]
        expected = (
            f"expected one REGISTER_LAYER_CLASS({layer.type}), as in BVLC Caffe, for the face layers to put their"
            " creator in its place"
        )
        if len(registrations) > 1:
            others = {registration.path for registration in registrations[1:]} - {first.path}
            where = f", as does {', '.join(sorted(others))}" if others else " more than once"
            return f"{first.path} registers {layer.type}{where}; {expected}"
        if not self.facts.has_stock_class(layer):
            there = self.facts.tree.find(layer.stock_header) is not None
            return (
                f"{layer.stock_header} {'does not declare' if there else 'is missing, which declares'} a class"
                f" {layer.type}Layer; the face layers build on that one, as BVLC Caffe has it"
            )
        if not first.by_class:
            creator = own_creator.name_of(self.facts.tree.text(first.path), first)
            path = layer.sources[1]
            if not creator or own_creator.asking(self.our_text(path), f"{layer.type}Layer", creator, "") is None:
                return f"{first.path} registers {layer.type} by a creator of its own; {expected}"
            self.creators[layer.type] = creator
        return ""

    def our_text(self, path: str) -> str:
        return decode(self.layers.read(path)).replace("\r\n", "\n")

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
        if layer.stock and {registration.path for registration in registrations} <= {*layer.sources}:
            return REPLACED  # an earlier transplant's, of which the record is gone
        problem = self.other_fields(layer)
        if not problem:
            problem = (self.why_not_over if layer.stock else self.why_not_replaceable)(layer, registrations)
        if not problem:
            return BESIDE if layer.stock and self.facts.has_stock_class(layer) else REPLACED
        if layer.type in self.replace:
            raise Refused(f"{layer.type} can't be replaced: {problem}; take the tree's own out by hand first")
        self.notes.append(f"{layer.type} is kept in spite of --replace {ALL}: {problem}")
        return KEPT

    def other_fields(self, layer: Layer) -> str:
        """A field of ours that the tree declares with another type, by which its own class reads it.

        That of LayerParameter may have a message of another name, if our sources never name it: NormFace's
        normalize_param.
        """
        names = {name: name for name in layer.messages}
        there = self.facts.field("LayerParameter", layer.field) if layer.field else None
        ours = self.layers.messages["LayerParameter"]
        for text in ours.fields if there else []:
            field = text.field
            if there and field.name == there.name and there.plain_type != field.plain_type:
                spoken_of = any(field.plain_type in self.our_text(path) for path in [*layer.sources, *layer.tests])
                if spoken_of or field.plain_type not in names or not self.facts.proto.message(there.plain_type):
                    return f"its {field.name} is a {there.type}, and a {field.type} for the face layers"
                names[field.plain_type] = there.plain_type
        for name, tree_name in names.items():
            for text in self.layers.messages[name].fields:
                field, there = text.field, self.facts.field(tree_name, text.field.name)
                if there and (there.label, there.plain_type) != (field.label, field.plain_type):
                    return (
                        f"its {tree_name}.{field.name} is {there.label} {there.type}, and {field.label} {field.type}"
                        " for the face layers"
                    )
        self.other_names.update((name, tree_name) for name, tree_name in names.items() if name != tree_name)
        return ""

    def why_not_over(self, layer: Layer, registrations: "list[Registration]") -> str:
        """Ours of a type that Caffe has goes beside the tree's, which serves where our fields are not used."""
        header = f'"{layer.stock_header[len("include/") :]}"'
        if header in self.our_text(layer.header):
            return f"the tree's own class has its fields, and ours is built on that class, of {layer.stock_header}"
        if layer.stock_optional and not self.facts.has_stock_class(layer):
            alone = len(registrations) == 1 and all(self.facts.has_field(feature) for feature in layer.features)
            return "" if alone else "the tree's own is another class than the one beside which ours serves"
        return self.why_not_beside(layer, registrations)

    def why_not_replaceable(self, layer: Layer, registrations: "list[Registration]") -> str:
        """The files of the tree's class, whatever their names, have to hold nothing else."""
        own = own_class.find(self.facts.tree, layer.type, layer.sources, self.facts.registered)
        if own.problem:
            return own.problem
        elsewhere = [path for other in self.layers.layers if other.type != layer.type for path in other.sources]
        for path in [*own.headers, *own.sources]:
            if path in [*elsewhere, *self.layers.shared]:
                return f"{path} has its class, and is the name of another file of the face layers"
        for registration in registrations:
            if registration.path not in layer.sources and not registration.by_class:
                return f"{registration.path} registers it by a creator of its own"
        if not own.headers and self.facts.tree.find(layer.header) is None:
            return f"no header under include/ has the class {layer.type}Layer of {registrations[0].path}"
        self.moved[layer.type] = [path for path in [*own.headers, *own.sources] if path not in layer.sources]
        return ""
