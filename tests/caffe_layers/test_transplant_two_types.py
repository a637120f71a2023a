"""The layers in trees as NVCaffe is from 0.16 on, whose Layer<Ftype, Btype> has two types: what of them changes."""

from __future__ import annotations

import re

import pytest
from support import transplant_trees as trees
from support.transplant_trees import FACTORY, FILLER, SOURCE, content, make
from transplanting import two_types
from transplanting.errors import Refused

LAYER = "include/caffe/layer.hpp"
LAYER_TEXT = """\
class LayerBase {
};

template<typename Ftype, typename Btype>
class Layer : public LayerBase {
 public:
};
"""
FACTORY_TEXT = """\
template<template <typename Ftype, typename Btype> class LType>
inline shared_ptr<LayerBase> CreateLayerBase(const LayerParameter& param, Type ftype, Type btype) {
}

class LayerRegistry {
 public:
  typedef shared_ptr<LayerBase> (*Creator)(const LayerParameter&, Type, Type, size_t);
};

#define REGISTER_LAYER_CREATOR(type, creator)                                  \\
  static LayerRegisterer g_creator_##type(#type, creator);

#define REGISTER_LAYER_CLASS(type)                                             \\
  shared_ptr<LayerBase> Creator_##type##Layer(const LayerParameter& param,     \\
      Type ftype, Type btype, size_t)                                          \\
  {                                                                            \\
    return CreateLayerBase<type##Layer>(param, ftype, btype);                  \\
  }                                                                            \\
  REGISTER_LAYER_CREATOR(type, Creator_##type##Layer)
"""
REAL = sorted(path for path in (SOURCE / "src").rglob("*.c*"))


def nvcaffe() -> dict[str, str]:
    """Write a tree with NVCaffe's traits."""
    files = trees.bvlc() | {LAYER: LAYER_TEXT, FACTORY: FACTORY_TEXT}
    for type_, name in (("Accuracy", "accuracy"), ("InnerProduct", "inner_product"), ("Scale", "scale")):
        header = f"include/caffe/layers/{name}_layer.hpp"
        files[header] = (
            f"template <typename Ftype, typename Btype>\nclass {type_}Layer : public Layer<Ftype, Btype> {{\n}};\n"
        )
    return files


@pytest.fixture
def with_real_layers(capsys) -> trees.Transplant:
    """The command with the layers as they are."""
    return trees.Transplant(SOURCE, trees.TESTS, capsys)


@pytest.mark.slow
def test_in_and_out_again(with_real_layers, tmp_path):
    root = make(tmp_path / "tree", nvcaffe())
    before = content(root)
    assert with_real_layers(root, "--dry-run") == 0
    assert content(root) == before
    assert with_real_layers(root) == 0
    assert with_real_layers.row("CosinAddm")[1] == "added"
    assert with_real_layers.row("Scale")[1] == "added beside the tree's"
    assert "the layers' tests are left out: they are written for the Layer<Dtype> of BVLC Caffe" in with_real_layers.out
    for header in two_types.HEADERS:
        assert (root / header).read_bytes() == (SOURCE / header).read_bytes()
    scale = (root / "src/caffe/layers/scale_layer.cpp").read_text()
    assert "// REGISTER_LAYER_CLASS(Scale);  // chosen by face_scale_layer.cpp" in scale
    assert not list((root / "src/caffe/test").glob("test_*_layer.cpp"))
    put_in = content(root)
    assert with_real_layers(root) == 0
    assert "already there: nothing to do" in with_real_layers.out and content(root) == put_in
    assert with_real_layers(root, "--revert") == 0
    assert content(root) == before


def test_a_tree_of_one_type_gets_the_sources_as_they_are(with_real_layers, tmp_path):
    root = make(tmp_path / "tree", trees.bvlc())
    assert with_real_layers(root) == 0
    assert not (root / "include/caffe/one_type").exists()
    for path in REAL:
        assert (root / path.relative_to(SOURCE)).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_what_changes_in_a_source(with_real_layers, tmp_path):
    """Beside the namespace, only the stream of kernels and the call of a filler: the rest is as it was."""
    root = make(tmp_path / "tree", nvcaffe())
    assert with_real_layers(root) == 0
    launches = 0
    for path in [*REAL, *sorted((SOURCE / "include/caffe").rglob("*.[hc][pu]*"))]:
        name = path.relative_to(SOURCE).as_posix()
        if name in two_types.HEADERS:
            continue
        ours, there = path.read_text(), (root / name).read_text()
        back = there.replace('#include "caffe/one_type/sources.hpp"\n\n', "")
        back = back.replace("one_type::GetFiller<", "GetFiller<")
        back = back.replace("namespace caffe { namespace one_type {", "namespace caffe {")
        back = back.replace("} }  // namespace one_type, caffe", "}  // namespace caffe")
        assert back.replace(", 0, Caffe::thread_stream()>>>", ">>>") == ours
        if "namespace caffe {" in ours:
            assert there.count("namespace caffe { namespace one_type {") == 1
        for launch in re.findall(r"<<<.*?>>>", there):
            assert launch.endswith(", 0, Caffe::thread_stream()>>>")
            launches += 1
    assert launches > 60  # all that there are


def test_the_filler_takes_a_blob_of_any_type(with_real_layers, tmp_path):
    root = make(tmp_path / "tree", nvcaffe())
    assert with_real_layers(root) == 0
    text = (root / FILLER).read_text()
    filler = text[text.index("class GaussianUnitballFiller") : text.index("/**")]
    assert "virtual void Fill(Blob* blob) {" in filler
    assert "Dtype* data = blob->template mutable_cpu_data<Dtype>();" in filler
    assert "caffe_scal<Dtype>(size, Dtype(1) / length, row);" in filler
    assert "Blob<" not in filler


def test_rewritten():
    text = (
        '#include "a.hpp"\n\nnamespace caffe {\n\nvoid F() {\n  K<Dtype><<<G(n), T>>>(n);\n'
        "  K<Dtype><<<1, A * B>>>(filler(GetFiller<Dtype>(p)));\n}\n\n}  // namespace caffe\n"
    )
    expected = (
        '#include "a.hpp"\n\n#include "caffe/one_type/sources.hpp"\n\nnamespace caffe { namespace one_type {\n\n'
        "void F() {\n  K<Dtype><<<G(n), T, 0, Caffe::thread_stream()>>>(n);\n"
        "  K<Dtype><<<1, A * B, 0, Caffe::thread_stream()>>>(filler(one_type::GetFiller<Dtype>(p)));\n}\n\n"
        "} }  // namespace one_type, caffe\n"
    )
    assert two_types.rewritten(text, "x.cu") == expected
    assert two_types.rewritten(text.replace("\n", "\r\n"), "x.cu") == expected.replace("\n", "\r\n")
    assert two_types.rewritten("// nothing\n", "x.cu") == "// nothing\n"


@pytest.mark.parametrize(
    "text",
    [
        "namespace caffe {\n",
        "namespace caffe {\n}  // namespace caffe\nnamespace caffe {\n}  // namespace caffe\n",
        "K<<<blocks>>>();\n",
    ],
)
def test_a_source_of_another_shape_is_refused(text):
    with pytest.raises(Refused, match=r"caffe_layers/x.cu is another file than this transplant.py expects"):
        two_types.rewritten(text, "x.cu")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("CreateLayerBase", "CreateLayer", "has no CreateLayerBase; with Layer<Ftype, Btype> expected it as"),
        ("REGISTER_LAYER_CLASS", "REGISTER", "has no REGISTER_LAYER_CLASS; with Layer<"),
        ("Type, Type, size_t);", "Type);", "expected creators shared_ptr<LayerBase> (*)(const LayerParameter&, Ty"),
    ],
)
def test_another_factory_is_refused(with_real_layers, tmp_path, old, new, problem):
    files = nvcaffe()
    files[FACTORY] = files[FACTORY].replace(old, new)
    root = make(tmp_path / "tree", files)
    before = content(root)
    assert with_real_layers.refusal(root).startswith(f"{FACTORY}{':' if problem[0] == 'e' else ''} {problem}")
    assert content(root) == before


def test_a_type_that_such_a_tree_makes_by_a_creator_is_left_out_by_name(with_real_layers, tmp_path):
    path = "src/caffe/layers/scale_layer.cpp"
    files = nvcaffe()
    files[path] = files[path].replace("CLASS(Scale)", "CREATOR(Scale, GetScale)")
    root = make(tmp_path / "tree", files)
    assert with_real_layers.refusal(root).endswith("; --without Scale leaves ours out")
    assert with_real_layers(root, "--without", "Scale", "--without", "GlobalLSEMargin") == 0
    assert not (root / "src/caffe/layers/face_scale_layer.cpp").exists()
