"""Small Caffe trees for the tests of transplant.py: no Caffe, only what it looks at."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "caffe_layers"
TESTS = REPOSITORY / "tests" / "caffe_layers"
sys.path.insert(0, str(SOURCE))

from transplanting import cli  # noqa: E402
from transplanting.layers import Layers  # noqa: E402

PROTO = "src/caffe/proto/caffe.proto"
FILLER = "include/caffe/filler.hpp"
FACTORY = "include/caffe/layer_factory.hpp"

FILLER_TEXT = """\
#ifndef CAFFE_FILLER_HPP
#define CAFFE_FILLER_HPP

namespace caffe {

/// @brief Fills with one value.
template <typename Dtype>
class ConstantFiller : public Filler<Dtype> {
};

/**
 * @brief Get a specific filler.
 */
template <typename Dtype>
Filler<Dtype>* GetFiller(const FillerParameter& param) {
  const std::string& type = param.type();
  if (type == "constant") {
    return new ConstantFiller<Dtype>(param);
  } else {
    CHECK(false) << "Unknown filler name: " << param.type();  // not "{" or '}'
  }
  return (Filler<Dtype>*)(NULL);
}

}  // namespace caffe

#endif  // CAFFE_FILLER_HPP_
"""

FACTORY_TEXT = """\
/* Write REGISTER_LAYER_CLASS(CenterLoss); in your file. */
template <typename Dtype>
class Layer;

template <typename Dtype>
class LayerRegistry {
 public:
  typedef shared_ptr<Layer<Dtype> > (*Creator)(const LayerParameter&);
};

#define REGISTER_LAYER_CREATOR(type, creator)                                  \\
  static LayerRegisterer<float> g_creator_f_##type(#type, creator<float>);     \\
  static LayerRegisterer<double> g_creator_d_##type(#type, creator<double>)    \\

#define REGISTER_LAYER_CLASS(type)                                             \\
  template <typename Dtype>                                                    \\
  shared_ptr<Layer<Dtype> > Creator_##type##Layer(const LayerParameter& param) \\
  {                                                                            \\
    return shared_ptr<Layer<Dtype> >(new type##Layer<Dtype>(param));           \\
  }                                                                            \\
  REGISTER_LAYER_CREATOR(type, Creator_##type##Layer)
"""

PROTO_TEXT = """\
syntax = "proto2";

package caffe;

// Specifies the shape (dimensions) of a Blob.
message BlobShape {
  repeated int64 dim = 1 [packed = true];
}

message FillerParameter {
  // The filler type.
  optional string type = 1 [default = 'constant'];
  enum VarianceNorm {
    FAN_IN = 0;
    FAN_OUT = 1;
  }
  optional VarianceNorm variance_norm = 8 [default = FAN_IN];
}

// NOTE
// Update the next available ID when you add a new LayerParameter field.
//
// LayerParameter next available layer-specific ID: 149 (last added: clip_param)
message LayerParameter {
  optional string name = 1; // the layer name
  optional string type = 2; /* the layer type { */
  repeated string bottom = 3;
  optional AccuracyParameter accuracy_param = 102;
  optional InnerProductParameter inner_product_param = 117;
  optional SoftmaxParameter softmax_param = 125;
  optional ScaleParameter scale_param = 142;
  optional ParameterParameter parameter_param = 145;
}

message AccuracyParameter {
  optional uint32 top_k = 1 [default = 1];
  optional int32 axis = 2 [default = 1];
}

message InnerProductParameter {
  optional uint32 num_output = 1; // The number of outputs for the layer
  optional bool transpose = 6 [default = false];
}

message SoftmaxParameter {
  enum Engine {
    DEFAULT = 0;
    CAFFE = 1;
  }
  optional Engine engine = 1 [default = DEFAULT];
}

message ConvolutionParameter {
  optional int32 axis = 16 [default = 1];
}

message LossParameter {
  optional int32 normalization = 3;  // an enum in Caffe
}

message ScaleParameter {
  optional int32 axis = 1 [default = 1];
  optional FillerParameter bias_filler = 5;
}

message ParameterParameter {
  optional BlobShape shape = 1;
}
"""


def layer_files(type_: str, name: str, extra: str = "") -> dict[str, str]:
    """Return the header and the source of a layer of the tree's own."""
    return {
        f"include/caffe/layers/{name}_layer.hpp": (
            f"template <typename Dtype>\nclass {type_}Layer : public Layer<Dtype> {{\n}};\n"
        ),
        f"src/caffe/layers/{name}_layer.cpp": (
            f"namespace caffe {{\n\nINSTANTIATE_CLASS({type_}Layer);\nREGISTER_LAYER_CLASS({type_});\n{extra}\n"
            "}  // namespace caffe\n"
        ),
    }


def bvlc() -> dict[str, str]:
    """Write a tree as BVLC Caffe 1.0 is."""
    return {
        PROTO: PROTO_TEXT,
        FILLER: FILLER_TEXT,
        FACTORY: FACTORY_TEXT,
        "include/caffe/layer.hpp": "template <typename Dtype>\nclass Layer {\n public:\n};\n",
        "src/caffe/layer_factory.cpp": "REGISTER_LAYER_CREATOR(Softmax, GetSoftmaxLayer);\n",
        "src/caffe/test/test_caffe_main.cpp": "int main() {}\n",
        "include/caffe/util/math_functions.hpp": "",
        "src/caffe/util/math_functions.cpp": "",
        "Makefile": "PROJECT := caffe\n",
        **layer_files("Accuracy", "accuracy"),
        **layer_files("InnerProduct", "inner_product"),
        **layer_files("Scale", "scale"),
        **layer_files("Parameter", "parameter"),
    }


def with_fields(text: str, message: str, *declarations: str) -> str:
    """``text`` with ``declarations`` before the closing brace of a top-level ``message``."""
    start = text.index(f"message {message} {{")
    end = text.index("\n}", start)
    return text[:end] + "".join(f"\n  {declaration}" for declaration in declarations) + text[end:]


def ssd() -> dict[str, str]:
    """Write a tree with SSD's Normalize, and its message of that name."""
    files = {**bvlc(), **layer_files("Normalize", "normalize")}
    text = with_fields(files[PROTO], "LayerParameter", "optional NormalizeParameter norm_param = 206;")
    files[PROTO] = text + "\nmessage NormalizeParameter {\n  optional bool across_spatial = 1 [default = true];\n}\n"
    return files


def caffe_face() -> dict[str, str]:
    """Write a tree with Wen's CenterLoss, at a number of its own."""
    files = {**bvlc(), **layer_files("CenterLoss", "center_loss")}
    text = with_fields(files[PROTO], "LayerParameter", "optional CenterLossParameter center_loss_param = 147;")
    files[PROTO] = text + (
        "\nmessage CenterLossParameter {\n  optional uint32 num_output = 1;\n"
        "  optional FillerParameter center_filler = 2;\n  optional int32 axis = 3 [default = 1];\n}\n"
    )
    return files


def ms() -> dict[str, str]:
    """Write a tree as NormFace's fork is: every layer and every field, each in the class of Caffe's name."""
    files = bvlc()
    layers = Layers(SOURCE, TESTS)
    text = files[PROTO]
    for message in layers.proto.messages:
        fields = [f"{field.label} {field.type} {field.name} = {field.number};" for field in message.fields]
        enums = [
            f"enum {enum.name} {{ {' '.join(f'{name} = {number};' for name, number in enum.values.items())} }}"
            for enum in message.enums
        ]
        name = message.name
        if f"message {name} {{" not in text:
            text += f"\nmessage {name} {{\n}}\n"
        text = with_fields(text, name, *enums, *fields)
    files[PROTO] = text.replace("FaceNormalizeParameter", "NormalizeParameter")
    for layer in layers.layers:
        files.update(layer_files(layer.type, layer.stock or layer.name))
    return files


def make(root: Path, files: dict[str, str], newline: str = "\n") -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(text.replace("\n", newline).encode())
    (root / "include/caffe/layers").mkdir(parents=True, exist_ok=True)
    return root


def content(root: Path) -> dict[str, tuple[str, int, str]]:
    """Return everything in a tree: kind, mode and hash of each path."""
    entries = {}
    for path in sorted(root.rglob("*")):
        kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "file"
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if kind == "file" else ""
        entries[path.relative_to(root).as_posix()] = (kind, path.lstat().st_mode, digest)
    return entries


class Transplant:
    """Runs the command with stub layers, and keeps what it said."""

    def __init__(self, source: Path, tests: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.source, self.tests, self.capsys = source, tests, capsys
        self.out = self.error = ""

    def __call__(self, *arguments: object) -> int:
        try:
            code = cli.main([str(argument) for argument in arguments], self.source, self.tests)
        except SystemExit as end:
            code = int(end.code or 0)
        self.out, self.error = self.capsys.readouterr()
        return code

    def row(self, type_: str) -> list[str]:
        """Return the cells of a layer's line in the table."""
        line = next(line for line in self.out.splitlines() if line.startswith(f"{type_} "))
        return [cell.strip() for cell in line.split("  ") if cell.strip()]

    def refusal(self, *arguments: object) -> str:
        """Return the one line of a run that is refused."""
        assert self(*arguments) == 2
        assert self.out == ""
        assert self.error.count("\n") == 1 and self.error.startswith("transplant.py: error: "), self.error
        assert "Traceback" not in self.error
        return self.error[len("transplant.py: error: ") :].strip()


def stub_layers(folder: Path) -> tuple[Path, Path]:
    """caffe_layers/ with the real manifest, fields and filler, and short files for the layers; and their tests."""
    source, tests = folder / "caffe_layers", folder / "tests"
    for path in ("manifest.json", "proto/face_layers.proto", "include/caffe/gaussian_unitball_filler.inc"):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SOURCE / path, source / path)
    layers = Layers(source, tests)
    for path in layers.shared:
        make(source, {path: f"// {path}\n"})
    for layer in layers.layers:
        header, code, *cuda = layer.sources
        macro = f"REGISTER_LAYER_CREATOR({layer.type}, Get)" if layer.stock else f"REGISTER_LAYER_CLASS({layer.type})"
        name = f"Face{layer.type}" if layer.stock else layer.type
        make(
            source, {header: f"class {name}Layer {{\n}};\n", code: f"{macro};\n", **dict.fromkeys(cuda, "// kernels\n")}
        )
        make(tests, {Path(path).name: f"// {Path(path).name}\n" for path in layer.tests})
    return source, tests


def protoc(root: Path, scratch: Path):
    """Return the messages of the tree's caffe.proto by name, as protoc reads them; skips the test without protoc."""
    from google.protobuf import descriptor_pb2

    if shutil.which("protoc") is None:
        pytest.skip("protoc is not installed (Debian: protobuf-compiler)")
    descriptor = scratch / "caffe.pb"
    folder = (root / PROTO).parent
    command = ["protoc", f"--proto_path={folder}", f"--descriptor_set_out={descriptor}", str(root / PROTO)]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert result.returncode == 0, result.stdout
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptor.read_bytes())
    return {message.name: message for message in files.file[0].message_type}


def numbers(message) -> dict[str, int]:
    return {field.name: field.number for field in message.field}
