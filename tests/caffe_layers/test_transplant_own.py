"""Layers that a tree has in ways of its own: files of other names, creators, classes that ours are built on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest
from support import transplant_trees as trees
from support.transplant_trees import PROTO, SOURCE, Transplant, content, make, with_fields

ADD = "LabelSpecificAdd"
ADD_HEADER = "include/caffe/layers/specific_add.hpp"
ADD_SOURCES = ("src/caffe/layers/label_specific_add.cpp", "src/caffe/layers/add_kernels.cu")
IP = "src/caffe/layers/face_inner_product_layer.cpp"
FACTORY = "src/caffe/layer_factory.cpp"


@pytest.fixture
def transplant(tmp_path, capsys, monkeypatch) -> Transplant:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # slow, and no machine fails here
    return Transplant(*trees.stub_layers(tmp_path / "layers"), capsys)


def own_names() -> dict[str, str]:
    """Write a tree with a layer of ours in files that have other names, all three of them."""
    header = "template <typename Dtype>\nclass LabelSpecificAddLayer : public Layer<Dtype> {\n};\n"
    member = "void LabelSpecificAddLayer<Dtype>::Forward_{0}(int x) {{\n  LossLayer<Dtype>::Reshape(x);\n}}\n"
    code = member.format("cpu") + "INSTANTIATE_CLASS(LabelSpecificAddLayer);\nREGISTER_LAYER_CLASS(LabelSpecificAdd);\n"
    kernels = member.format("gpu") + "INSTANTIATE_LAYER_GPU_FUNCS(LabelSpecificAddLayer);\n"
    files = {ADD_HEADER: header, ADD_SOURCES[0]: code, ADD_SOURCES[1]: kernels}
    return {**trees.bvlc(), **files}


@pytest.mark.slow
def test_a_class_in_files_of_other_names_is_replaced(transplant, tmp_path):
    includer = "src/caffe/test/test_specific_add.cpp"
    files = {**own_names(), includer: '#include "caffe/layers/specific_add.hpp"\n'}
    root = make(tmp_path / "tree", files)
    before = content(root)
    assert transplant(root) == 0 and transplant.row(ADD)[1] == "kept: the tree's own"
    assert transplant(root, "--replace", ADD) == 0
    assert transplant.row(ADD)[1] == "added in place of the tree's"
    assert f"{includer} includes {ADD_HEADER}, which is another now" in transplant.out
    texts = {path: path.read_text() for top in ("src", "include") for path in (root / top).rglob("*") if path.is_file()}
    defining = [path.name for path, text in texts.items() if re.search(r"class LabelSpecificAddLayer\b", text)]
    registering = [path.name for path, text in texts.items() if "REGISTER_LAYER_CLASS(LabelSpecificAdd)" in text]
    assert defining == ["label_specific_add_layer.hpp"] and registering == ["label_specific_add_layer.cpp"]
    assert (root / ADD_HEADER).read_text().startswith('#include "caffe/layers/label_specific_add_layer.hpp"')
    for path in ADD_SOURCES:  # nothing but a comment: a second definition would not link
        assert re.fullmatch(r"//[^\n]*\n", (root / path).read_text())
    assert transplant(root) == 0 and "already there" in transplant.out
    assert transplant(root, "--revert") == 0
    assert content(root) == before


@pytest.mark.parametrize(
    ("path", "text", "problem"),
    [
        (ADD_SOURCES[0], "REGISTER_LAYER_CLASS(More);", f"{ADD_SOURCES[0]} registers More too"),
        (ADD_SOURCES[1], "INSTANTIATE_LAYER_GPU_FUNCS(MoreLayer);", f"{ADD_SOURCES[1]} has MoreLayer too"),
        (ADD_SOURCES[1], "int MoreLayer<Dtype>::Rows(int n) const {}", f"{ADD_SOURCES[1]} has MoreLayer too"),
        (ADD_HEADER, "class MoreLayer : public Layer<Dtype> {};", f"{ADD_HEADER} declares MoreLayer too"),
        (ADD_HEADER, "struct Scores { int n; };", f"{ADD_HEADER} declares Scores too"),
        (
            "src/caffe/layers/label_specific_add_layer.cu",
            "STUB_GPU(OtherLayer);",
            "src/caffe/layers/label_specific_add_layer.cu has OtherLayer too",
        ),
        (
            "src/caffe/layers/flip_layer.cu",
            "INSTANTIATE_LAYER_GPU_FUNCS(LabelSpecificAddLayer);",
            "src/caffe/layers/flip_layer.cu has its class, and is the name of another file of the face layers",
        ),
    ],
)
def test_files_that_hold_more_are_not_replaced(transplant, tmp_path, path, text, problem):
    files = own_names()
    root = make(tmp_path / "tree", {**files, path: files.get(path, "") + text + "\n"})
    before = content(root)
    refusal = transplant.refusal(root, "--replace", ADD)
    assert refusal == f"{ADD} can't be replaced: {problem}; take the tree's own out by hand first"
    assert content(root) == before


def test_calls_and_forward_declarations_are_no_classes_of_the_file(transplant, tmp_path):
    files = own_names()
    files[ADD_HEADER] = "template <typename Dtype> class MoreLayer;\n// class Old : x {\n" + files[ADD_HEADER]
    files[ADD_SOURCES[0]] += "void f() {\n  if (MoreLayer<Dtype>::ready(1)) {\n    MoreLayer<Dtype>::go(2);\n  }\n}\n"
    root = make(tmp_path / "tree", files)
    assert transplant(root, "--replace", ADD) == 0


@pytest.mark.slow
def test_replacing_a_layer_that_caffe_has_puts_ours_beside(transplant, tmp_path):
    root = make(tmp_path / "tree", trees.ms())
    scale = "include/caffe/layers/face_scale_layer.hpp"
    shutil.copy(SOURCE / scale, transplant.source / scale)  # ours is derived from Caffe's ScaleLayer
    before = content(root)
    assert transplant(root, "--replace", "all") == 0
    assert transplant.row("InnerProduct")[1] == transplant.row("Parameter")[1] == "added beside the tree's"
    assert "// REGISTER_LAYER_CLASS(InnerProduct);" in (root / "src/caffe/layers/inner_product_layer.cpp").read_text()
    assert transplant.row("Scale")[1] == "kept: the tree's own"
    assert (
        "Scale is kept in spite of --replace all: the tree's own class has its fields, and ours is built on that class,"
        " of include/caffe/layers/scale_layer.hpp"
    ) in transplant.out
    assert transplant(root, "--revert") == 0
    assert content(root) == before


def forks_normalize(*more: str) -> dict[str, str]:
    """Write a tree with NormFace's own Normalize, whose message has the name that SSD's has."""
    files = {**trees.bvlc(), **trees.layer_files("Normalize", "normalize")}
    text = with_fields(files[PROTO], "LayerParameter", "optional NormalizeParameter normalize_param = 214;")
    fields = ['optional string normalize_type = 1 [default = "L2"];', *more]
    return {**files, PROTO: with_fields(text + "\nmessage NormalizeParameter {\n}\n", "NormalizeParameter", *fields)}


@pytest.mark.slow
def test_a_message_of_another_name_serves_the_layer_that_replaces_its_own(transplant, tmp_path):
    root = make(tmp_path / "tree", forks_normalize())
    before = content(root)
    assert transplant(root) == 0 and transplant.row("Normalize")[1] == "kept: the tree's own"
    assert transplant(root, "--replace", "Normalize") == 0
    assert transplant.row("Normalize") == ["Normalize", "added in place of the tree's", "normalize_param", "214"]
    assert "\n// REGISTER_LAYER_CLASS(Normalize);" in (root / "src/caffe/layers/normalize_layer.cpp").read_text()
    merged = trees.protoc(root, tmp_path)
    assert trees.numbers(merged["NormalizeParameter"]) == {
        "normalize_type": 1, "fix_gradient": 2, "bp_norm": 3, "eps": 100,
    }  # fmt: skip
    assert "FaceNormalizeParameter" not in merged
    config = (root / "include/caffe/face_layers_config.hpp").read_text()
    assert "CAFFE_FACE_STOCK_NORMALIZE" not in config  # that would be SSD's, which serves beside
    assert transplant(root) == 0 and "already there" in transplant.out
    assert transplant(root, "--revert") == 0
    assert content(root) == before


def test_a_message_that_differs_or_is_named_in_our_sources_keeps_the_class(transplant, tmp_path):
    root = make(tmp_path / "tree", forks_normalize("optional int32 bp_norm = 3;"))
    assert "its NormalizeParameter.bp_norm is optional int32, and optional bool for" in transplant.refusal(
        root, "--replace", "Normalize"
    )
    root = make(tmp_path / "other", forks_normalize())
    source = "src/caffe/layers/face_normalize_layer.cpp"
    make(transplant.source, {source: "FaceNormalizeParameter param;\nREGISTER_LAYER_CREATOR(Normalize, Get);\n"})
    assert "its normalize_param is a NormalizeParameter, and a FaceNormalizeParameter for" in transplant.refusal(
        root, "--replace", "Normalize"
    )


def test_a_class_that_nets_would_lose_is_not_replaced(transplant, tmp_path):
    root = make(tmp_path / "tree", {**trees.bvlc(), **trees.layer_files("Normalize", "normalize")})
    assert "Normalize can't be replaced: the tree's own is another class than the one beside" in transplant.refusal(
        root, "--replace", "Normalize"
    )


# Creators of the tree's own


MACROS = """\
#pragma once
#include <map>
#include <memory>
#include <string>
using std::shared_ptr;
namespace caffe {
struct LayerParameter { bool ours, other; };
template <typename Dtype> struct Layer { virtual ~Layer() {} virtual int who() = 0; };
template <typename Dtype> using Creator = shared_ptr<Layer<Dtype> > (*)(const LayerParameter&);
template <typename Dtype> std::map<std::string, Creator<Dtype> >& creators() {
  static std::map<std::string, Creator<Dtype> > all;
  return all;
}
template <typename Dtype> struct Registerer {
  Registerer(const char* type, Creator<Dtype> creator) { creators<Dtype>()[type] = creator; }
};
#define REGISTER_LAYER_CREATOR(type, creator) \\
  static Registerer<float> f_##type(#type, creator<float>); static Registerer<double> d_##type(#type, creator<double>)
template <typename Dtype> struct InnerProductLayer : Layer<Dtype> {
  InnerProductLayer(const LayerParameter&) {}
  int who() { return 1; }
};
}
"""
THEIRS = """\
namespace caffe {

template <typename Dtype>
struct MKLLayer : Layer<Dtype> {
  int who() { return 2; }
};

template <typename Dtype>
shared_ptr<Layer<Dtype> > GetInnerProductLayer(
    const LayerParameter& param) {
  if (param.other) { return shared_ptr<Layer<Dtype> >(new MKLLayer<Dtype>()); }
  return shared_ptr<Layer<Dtype> >(new InnerProductLayer<Dtype>(param));
}

REGISTER_LAYER_CREATOR(InnerProduct, GetInnerProductLayer);

}  // namespace caffe
"""
OURS = """\
namespace caffe {

template <typename Dtype>
struct FaceInnerProductLayer : Layer<Dtype> {
  int who() { return 3; }
};

template <typename Dtype>
shared_ptr<Layer<Dtype> > GetFaceInnerProductLayer(const LayerParameter& param) {
  if (param.ours) {
    return shared_ptr<Layer<Dtype> >(new FaceInnerProductLayer<Dtype>());
  }
  return shared_ptr<Layer<Dtype> >(new InnerProductLayer<Dtype>(param));
}

REGISTER_LAYER_CREATOR(InnerProduct, GetFaceInnerProductLayer);

}  // namespace caffe
"""
MAIN = """\
#include "macros.hpp"
template <typename Dtype> bool right() {
  caffe::Creator<Dtype> creator = caffe::creators<Dtype>()["InnerProduct"];
  caffe::LayerParameter stock = {false, false}, theirs = {false, true}, ours = {true, true};
  return creator(stock)->who() == 1 && creator(theirs)->who() == 2 && creator(ours)->who() == 3;
}
int main() { return right<float>() && right<double>() ? 0 : 1; }
"""


def intel(creator: str = THEIRS) -> dict[str, str]:
    """Write a tree as Intel Caffe is: InnerProduct is made by a creator, which knows of more classes."""
    files = trees.bvlc()
    files["src/caffe/layers/inner_product_layer.cpp"] = "INSTANTIATE_CLASS(InnerProductLayer);\n"
    return {**files, FACTORY: creator}


@pytest.mark.slow
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_creator_of_the_trees_own_is_asked_by_ours(transplant, tmp_path, newline):
    make(transplant.source, {IP: OURS})
    root = make(tmp_path / "tree", intel(), newline)
    before = content(root)
    assert transplant(root) == 0
    assert transplant.row("InnerProduct")[1] == "added beside the tree's"
    if shutil.which("g++"):
        make(tmp_path, {"main.cpp": MAIN, "macros.hpp": MACROS})
        command = ["g++", "-O0", "-include", "macros.hpp", "main.cpp", root / FACTORY, root / IP, "-o", "main"]
        subprocess.run(command, cwd=tmp_path, check=True)
        assert subprocess.run([tmp_path / "main"], check=False).returncode == 0
    assert transplant(root) == 0 and "already there" in transplant.out
    assert transplant(root, "--revert") == 0
    assert content(root) == before


def test_two_creators_in_one_file(transplant, tmp_path):
    scale = "src/caffe/layers/face_scale_layer.cpp"
    make(transplant.source, {IP: OURS, scale: OURS.replace("InnerProduct", "Scale")})
    creators = THEIRS + "\n" + THEIRS.replace("InnerProduct", "Scale")
    root = make(tmp_path / "tree", {**intel(creators), "src/caffe/layers/scale_layer.cpp": ""})
    assert transplant(root) == 0
    text = (root / FACTORY).read_text()
    for type_ in ("InnerProduct", "Scale"):
        chosen = f"/* REGISTER_LAYER_CREATOR({type_}, Get{type_}Layer);  chosen by face_"
        made = f"template shared_ptr<Layer<float> > Get{type_}Layer<float>(const LayerParameter&);"
        assert chosen in text and made in text
        assert f"return Get{type_}Layer<Dtype>(param);" in (root / (IP if type_ != "Scale" else scale)).read_text()


@pytest.mark.parametrize(
    "creator",
    [
        THEIRS.replace("shared_ptr<Layer<Dtype> > Get", "static shared_ptr<Layer<Dtype> > Get"),
        THEIRS.replace("namespace caffe {", "namespace caffe { namespace {") + "}",
        THEIRS.replace("GetInnerProductLayer(\n", "GetAnother(\n"),
    ],
    ids=["static", "in a nameless namespace", "elsewhere"],
)
def test_a_creator_that_no_other_file_can_call_is_refused_with_the_way_out(transplant, tmp_path, creator):
    make(transplant.source, {IP: OURS})
    root = make(tmp_path / "tree", intel(creator))
    refusal = transplant.refusal(root)
    assert refusal.startswith(f"{FACTORY} registers InnerProduct by a creator of its own; expected one REGISTER_LAYER_")
    assert refusal.endswith("; --without InnerProduct leaves ours out")
    assert transplant(root, "--without", "InnerProduct") == 0
    assert transplant.row("InnerProduct")[1] == "left out"
    assert (root / FACTORY).read_text() == creator and not (root / IP).exists()
    assert "optional bool normalize = 7" not in (root / PROTO).read_text()


def test_every_real_layer_that_goes_beside_can_ask_a_creator():
    from transplanting import own_creator
    from transplanting.layers import Layers

    for layer in Layers(SOURCE, trees.TESTS).layers:
        if layer.stock:
            text = (SOURCE / layer.sources[1]).read_text()
            asking = own_creator.asking(text, f"{layer.type}Layer", "GetTheirs", "x.cpp")
            assert asking and asking.count("GetTheirs") == 2 and f"new {layer.type}Layer" not in asking


# Layers that are left out


@pytest.mark.slow
def test_what_was_left_out_stays_out(transplant, tmp_path):
    root = make(tmp_path / "tree", trees.bvlc())
    before = content(root)
    assert transplant(root, "--without", "Flip", "--without", "Scale") == 0
    assert transplant.row("Flip") == ["Flip", "left out"] and transplant.row("Scale")[1] == "left out"
    assert "flip_param" not in (root / PROTO).read_text()
    assert (root / "src/caffe/layers/scale_layer.cpp").read_text() == trees.bvlc()["src/caffe/layers/scale_layer.cpp"]
    assert not (root / "src/caffe/layers/flip_layer.cpp").exists()
    assert transplant(root) == 0 and "already there" in transplant.out
    assert "Flip is both to be replaced and to be left out" in transplant.refusal(root, "--replace", "Flip")
    assert transplant(root, "--revert") == 0
    assert content(root) == before


def test_a_layer_that_is_put_in_already_can_be_left_out_later(transplant, tmp_path):
    root = make(tmp_path / "tree", trees.bvlc())
    assert transplant(root) == 0
    assert transplant(root, "--without", "Scale") == 0
    assert (root / "src/caffe/layers/scale_layer.cpp").read_text() == trees.bvlc()["src/caffe/layers/scale_layer.cpp"]


def test_without_scale_its_field_is_missed_by_another_layer(transplant, tmp_path):
    files = {path: text for path, text in trees.bvlc().items() if "scale_layer" not in path}
    files[PROTO] = files[PROTO].replace("  optional ScaleParameter scale_param = 142;\n", "")
    root = make(tmp_path / "tree", files)
    assert "or go without it: --without GlobalLSEMargin --without Scale" in transplant.refusal(root)
    assert "GlobalLSEMargin reads a ScaleParameter, for which LayerParameter has no field here" in transplant.refusal(
        root, "--without", "Scale"
    )
    assert transplant(root, "--without", "Scale", "--without", "GlobalLSEMargin") == 0


# Caffe's relatives


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("src/proto/caffe.proto", ["is mini-caffe or the like", "train there"]),
        ("caffe2/proto/caffe2.proto", ["is Caffe2, which shares no layer with Caffe"]),
    ],
)
def test_relatives_of_caffe_are_named_with_the_way_out(transplant, tmp_path, file, said):
    other = {path: text for path, text in trees.bvlc().items() if path != PROTO}
    root = make(tmp_path / "tree", {**other, file: ""})
    refusal = transplant.refusal(root)
    assert all(words in refusal for words in said)
    assert transplant(make(tmp_path / "later", {**trees.bvlc(), file: ""})) == 0


# Trees from before December 2015


def old_tree(folder, **changed):
    """Layers declared in a few headers, as in Fast R-CNN's, SegNet's and yjxiong's trees."""
    files = {path: text for path, text in trees.bvlc().items() if not path.startswith("include/caffe/layers")}
    declared = {path: text for path, text in trees.bvlc().items() if path.startswith("include/caffe/layers")}
    loss = [path for path in declared if "accuracy" in path]
    files["include/caffe/loss_layers.hpp"] = "class LossLayer {};\n" + "".join(declared.pop(path) for path in loss)
    files["include/caffe/common_layers.hpp"] = "class LossLayer;  // forward\n" + "".join(declared.values())
    files["include/caffe/blob.hpp"] = "int CanonicalAxisIndex(int axis_index) const;\n"
    return make(folder, {**files, **changed})


def test_an_old_tree_gets_headers_that_forward_and_is_the_same_again_after(transplant, tmp_path):
    root = old_tree(tmp_path / "tree")
    before = trees.content(root)
    assert transplant(root) == 0
    headers = root / "include/caffe/layers"
    assert (headers / "accuracy_layer.hpp").read_text().endswith('\n#include "caffe/loss_layers.hpp"\n')
    assert (headers / "loss_layer.hpp").read_text().endswith('\n#include "caffe/loss_layers.hpp"\n')
    assert (headers / "inner_product_layer.hpp").read_text().endswith('\n#include "caffe/common_layers.hpp"\n')
    assert (headers / "scale_layer.hpp").read_text().endswith('\n#include "caffe/common_layers.hpp"\n')
    assert transplant(root) == 0 and "nothing to do" in transplant.out
    assert transplant(root, "--revert") == 0
    assert trees.content(root) == before


def test_a_tree_older_still_is_refused(transplant, tmp_path):
    root = old_tree(tmp_path / "tree", **{"include/caffe/blob.hpp": "int num() const;\n"})
    assert "include/caffe/blob.hpp has no CanonicalAxisIndex: it is from before March 2015" in transplant.refusal(root)
    (root / "include/caffe/common_layers.hpp").unlink()
    (root / "include/caffe/layers").rmdir()
    assert "neither include/caffe/layers nor include/caffe/common_layers.hpp" in transplant.refusal(root)


def test_a_layer_that_reads_what_an_old_tree_lacks_is_left_out(transplant, tmp_path):
    proto = trees.bvlc()[PROTO].replace("normalization = 3", "normalize = 3")
    root = make(tmp_path / "tree", trees.bvlc() | {PROTO: proto})
    assert transplant(root) == 0
    assert "FocalLoss is left out: it reads LossParameter.normalization, which this tree is too old" in transplant.out
    assert not (root / "src/caffe/layers/focal_loss_layer.cpp").exists()
    assert (root / "src/caffe/layers/ring_loss_layer.cpp").exists()


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (
            "typename Dtype, typename MItype, typename MOtype",
            "as in the branch opencl of BVLC Caffe; its branch master",
        ),
        ("typename Dtype, int N", "unlike BVLC Caffe"),
    ],
)
def test_layers_with_more_types_are_named(transplant, tmp_path, parameters, said):
    layer = f"template <{parameters}>\nclass Layer : public LayerBase {{\n}};\n"
    root = make(tmp_path / "tree", {**trees.bvlc(), "include/caffe/layer.hpp": layer})
    assert said in transplant.refusal(root)
