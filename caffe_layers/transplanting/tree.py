"""A Caffe tree as it was before the face layers came into it."""

import os
import re
from pathlib import Path

from . import proto_parser
from .errors import Refused
from .other_caffes import other_caffe
from .proto import File
from .registry import FACTORY, LAYER, Registration, check_factory, registrations
from .source_text import code_of, decode
from .two_types import check_factory as check_factory_of_two_types
from .two_types import has_two_types

PROTO = "src/caffe/proto/caffe.proto"
FILLER = "include/caffe/filler.hpp"
HEADERS = "include/caffe/layers"
SOURCES = "src/caffe/layers"
CONFIG = "include/caffe/face_layers_config.hpp"
OLD_HEADERS = tuple(f"include/caffe/{name}_layers.hpp" for name in ("common", "loss", "vision", "neuron", "data"))
"""In which trees from before December 2015 declare their layers."""
CODE = (".cpp", ".cu", ".cc", ".cxx")
HEADER = (".hpp", ".h", ".hh", ".hxx", ".cuh")


def _give_up(error: OSError) -> None:
    raise error


class Tree:
    """``before`` has what an earlier transplant replaced: path -> the content then, None where there was no file."""

    def __init__(self, root: Path, before: "dict[str, bytes | None]") -> None:
        self.root, self.before = root, before

    def find(self, path: str) -> "bytes | None":
        """A file's content; None where there is none."""
        if path in self.before:
            return self.before[path]
        file = self.root / path
        if not file.exists():
            return None
        if not file.is_file():
            raise Refused(f"{file} is {'a folder' if file.is_dir() else 'no plain file'}; expected a file")
        return file.read_bytes()

    def text(self, path: str) -> str:
        content = self.find(path)
        if content is None:
            raise Refused(f"{self.root} has no {path}; is it the top folder of a Caffe tree?")
        return decode(content)

    def check(self) -> None:
        """Raises Refused for a tree that the face layers can't be put into."""
        known = other_caffe(self.root)
        if known:
            raise Refused(f"{self.root} {known}")
        proto = self.proto()
        if not (self.root / HEADERS).is_dir() and not self.is_old():
            raise Refused(
                f"{self.root} has neither {HEADERS} nor {OLD_HEADERS[0]}; is it the top folder of a Caffe tree?"
            )
        if not (self.root / SOURCES).is_dir():
            raise Refused(f"{self.root} has no {SOURCES}; is it the top folder of a Caffe tree?")
        for path in (HEADERS, SOURCES):
            self._check_folder(path)
        if proto.syntax != "proto2":
            raise Refused(
                f'{PROTO} has the syntax {proto.syntax}; the face layers are written for "proto2", as in BVLC'
            )
        if proto.package != "caffe":
            raise Refused(f'{PROTO} has the package "{proto.package}"; the face layers are written for "caffe"')
        for name, older in (("LayerParameter", ", as before October 2014"), ("FillerParameter", "")):
            message = proto.message(name)
            field = message.field("type") if message else None
            if field is None or field.type != "string":
                raise Refused(
                    f"{PROTO}: {name} has no field `optional string type`{older}; merge a later BVLC Caffe first"
                )
        if self.has_two_types():
            check_factory_of_two_types(self.text(FACTORY), FACTORY)
        else:
            check_factory(self.text(FACTORY), self.text(LAYER))
        self.text(FILLER)

    def _check_folder(self, path: str) -> None:
        """Raises Refused where a link leads to it, which the search for sources does not follow."""
        folder = self.root
        for name in path.split("/"):
            folder = folder / name
            if folder.is_symlink():
                raise Refused(f"{folder} is a symbolic link; put the folder itself there")

    def proto(self) -> File:
        return proto_parser.parse(self.text(PROTO), PROTO)

    def sources(self) -> "list[str]":
        """Paths of all C++ and CUDA files under src/."""
        return self.files("src", CODE)

    def headers(self) -> "list[str]":
        """Paths of all headers under include/."""
        return self.files("include", HEADER)

    def files(self, top: str, suffixes: "tuple[str, ...]") -> "list[str]":
        """Those under ``top`` as it was before the face layers came."""
        found = []
        for folder, folders, names in os.walk(str(self.root / top), onerror=_give_up):
            folders.sort()
            relative = Path(folder).relative_to(self.root).as_posix()
            files = [
                name for name in sorted(names) if name.endswith(suffixes) and os.path.isfile(os.path.join(folder, name))
            ]
            found += [f"{relative}/{name}" for name in files]
        before = [path for path in self.before if path.startswith(f"{top}/") and path.endswith(suffixes)]
        found += [path for path in before if path not in found]
        return [path for path in found if self.before.get(path, b"") is not None]

    def registered(self) -> "dict[str, list[Registration]]":
        """Every layer type, and where it is registered."""
        result: dict[str, list[Registration]] = {}
        for path in self.sources():
            content = self.find(path)
            for registration in (
                registrations(decode(content), path) if content and b"REGISTER_LAYER_C" in content else []
            ):
                result.setdefault(registration.type, []).append(registration)
        return result

    def has_two_types(self) -> bool:
        """Whether layers have two types, as in NVCaffe from 0.16 on."""
        return has_two_types(self.text(LAYER))

    def is_old(self) -> bool:
        """Whether the layers share headers, as before December 2015."""
        return self.find(OLD_HEADERS[0]) is not None and self.find(f"{HEADERS}/loss_layer.hpp") is None

    def declares(self, header: str, class_name: str) -> bool:
        return self.declaring(header, class_name) != ""

    def declaring(self, header: str, class_name: str) -> str:
        """The header of a class: ``header``, or one that holds many in an old tree; "" where none has it."""
        declaration = re.compile(rf"\bclass\s+(?:\w+\s+)?{class_name}\b(?!\s*;)")
        for path in [header, *(OLD_HEADERS if self.is_old() else ())]:
            content = self.find(path)
            if content is not None and declaration.search(code_of(decode(content))):
                return path
        return ""

    def includers(self, header: str) -> "list[str]":
        """The C++ and CUDA files under src/ that include ``header`` of include/."""
        name = header[len("include/") :].encode()
        return [path for path in self.sources() if b'"' + name + b'"' in (self.find(path) or b"")]
