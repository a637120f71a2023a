"""transplant.py and caffe.proto: texts of every shape are read, and fields find free numbers. protoc is the judge."""

from __future__ import annotations

import os

import pytest
from support import transplant_trees as trees
from support.transplant_trees import PROTO, Transplant, make, numbers, protoc, with_fields
from transplanting import merge, proto_parser
from transplanting.errors import Refused
from transplanting.layers import Layers

HARD = """\
/* message Fake { */ syntax = "proto2"; // package wrong;
package caffe;
import "google/protobuf/descriptor.proto";
option java_package = "a;b}c";
extend google.protobuf.FieldOptions {
  optional string note = 50001;
}
message Outer {
  /* } */ optional string a = 1 [default = "}\\"{", deprecated = true]; // }
  message Outer { optional int32 b = 0x10; enum Inner { P = -1; Q = 0x2; } }
  optional .caffe.Outer.Outer c = 007 [(note) = "x;]"];
  repeated group Things = 8 {
    required float inside = 1 [default = -1.5e+3];
  }
  oneof choice {
    int32 d = 9;
    Outer e = 10;
    group Other = 11 { optional int32 f = 1; }
  }
  map<string, Outer> g = 12;
  extensions 100 to 199, 250;
  reserved 13, 15 to 17;
  reserved "old", 'older';
  extend .caffe.Outer { optional int32 h = 150; repeated group More = 151 { optional int32 message = 1; } }
  enum Kind { option allow_alias = true; NONE = 0; ZERO = 0 [deprecated = true]; reserved 5 to max; }
  optional Kind kind = 14 [default = NONE];
  optional bool optional = 20; optional float reserved = 21; optional double max = 22 [default = inf];
  ;
}
enum Top { T = 0; }
service Search { rpc Find (Outer) returns (Outer) { option deprecated = true; } }
message Empty {}
"""


@pytest.fixture
def transplant(tmp_path, capsys, monkeypatch) -> Transplant:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # slow, and no machine fails here
    return Transplant(*trees.stub_layers(tmp_path / "layers"), capsys)


def described(message) -> tuple:
    """What protoc and the parser should agree on."""
    fields = {field.name: field.number for field in message.field}
    inner = {each.name: described(each) for each in message.nested_type if not each.options.map_entry}
    enums = {enum.name: {value.name: value.number for value in enum.value} for enum in message.enum_type}
    return fields, inner, enums, sorted(message.reserved_name)


def parsed(message) -> tuple:
    fields = {field.name: field.number for field in message.fields}
    inner = {each.name: parsed(each) for each in message.messages}
    enums = {enum.name: enum.values for enum in message.enums}
    return fields, inner, enums, sorted(message.reserved_names)


def test_the_parser_reads_what_protoc_reads(tmp_path):
    root = make(tmp_path, {PROTO: HARD})
    found = proto_parser.parse(HARD, PROTO)
    assert (found.syntax, found.package) == ("proto2", "caffe")
    assert [enum.name for enum in found.enums] == ["Top"]
    ranges = [
        (13, 13, "reserved numbers"),
        (15, 17, "reserved numbers"),
        (100, 199, "extensions"),
        (250, 250, "extensions"),
    ]
    assert sorted(found.messages[0].ranges) == ranges
    assert found.messages[0].field("a").default == '"}\\"{"'
    expected = {name: described(message) for name, message in protoc(root, tmp_path).items()}
    assert {message.name: parsed(message) for message in found.messages} == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("message A {\n  optional int32 b = 1;\n", 'caffe.proto:1: the "{" of A is never closed'),
        ("message A {\n  optional int32 b = 1\n}", 'caffe.proto:3: expected ";", got }'),
        ("message A {\n  int32 b = 1;\n}", "caffe.proto:2: expected optional, required or repeated, got int32"),
        ("message A {\n\n  optional int32 = 1;\n}", "caffe.proto:3: expected the name of a field, got ="),
        ("message A {\n  optional int32 b = x;\n}", "caffe.proto:2: expected the number of a field, got x"),
        ("message A {\n  optional int32 b = 1.5;\n}", "caffe.proto:2: expected the number of a field, got 1.5"),
        ("message A {\n  optional int32 b = 1 [default = 2;\n}", 'caffe.proto:2: expected "]", got ;'),
        ("message A {\n  optional int32 b = 1 [default = 2", 'caffe.proto:2: expected "]", got the end of the file'),
        ("\n/* message A {", "caffe.proto:2: this comment is never closed"),
        ("}\n", "caffe.proto:1: expected a message, enum, option or the like, got }"),
        ("<<<<<<< HEAD\n", "caffe.proto:1: expected a message"),
        ('option a = "b\n;', "caffe.proto:1: this string is never closed"),
        ("\xff\xfem\0e\0", "caffe.proto:1: unexpected '\xff'"),
        ("enum A {\n  B = 1;", "caffe.proto:2: expected the name of a value, got the end of the file"),
        ("option a = {", 'caffe.proto:1: this "{" is never closed'),
        ("option a", 'caffe.proto:1: expected ";", got the end of the file'),
        ("message " + "A { message " * 3000, "caffe.proto: messages or options are nested too deep to be read"),
    ],
)
def test_a_text_that_does_not_parse_is_refused_with_its_line(text, problem):
    with pytest.raises(Refused) as refused:
        proto_parser.parse(text, "caffe.proto")
    assert str(refused.value).startswith(problem)


def put_in(transplant, tmp_path, text: str) -> dict:
    """The messages of a BVLC-like tree with that caffe.proto, afterwards."""
    root = make(tmp_path / "tree", {**trees.bvlc(), PROTO: text})
    assert transplant(root) == 0, transplant.error
    return protoc(root, tmp_path)


def test_taken_numbers_are_replaced_by_the_next_free_ones(transplant, tmp_path):
    text = with_fields(trees.PROTO_TEXT, "LayerParameter", "optional int32 mine = 212;", "optional int32 more = 242;")
    text = with_fields(text, "InnerProductParameter", "optional int32 own = 7;")
    text = with_fields(text, "ScaleParameter", "optional int32 six = 6;", "optional int32 high = 18999;")
    merged = put_in(transplant, tmp_path, text)
    layer = numbers(merged["LayerParameter"])
    assert (layer["flip_param"], layer["center_loss_param"]) == (307, 211)
    assert numbers(merged["InnerProductParameter"])["normalize"] == 101  # above normalize_eps, which has its own
    assert numbers(merged["ScaleParameter"])["min_value"] == 20000  # beyond protobuf's own numbers
    assert transplant.row("Flip")[2:] == ["flip_param", "307"]
    assert "LayerParameter.flip_param has the number 307 here, as 212 is taken by mine\n" in transplant.out


def test_reserved_numbers_and_extensions_are_left_alone(transplant, tmp_path):
    text = with_fields(trees.PROTO_TEXT, "LayerParameter", "reserved 211, 213 to 215;", "extensions 307 to 400;")
    merged = put_in(transplant, tmp_path, text)
    layer = numbers(merged["LayerParameter"])
    moved = ["center_loss_param", "inner_distance_param", "normalize_param", "general_contrastive_loss_param"]
    assert [layer[name] for name in moved] == [401, 402, 403, 404]
    assert "center_loss_param has the number 401 here, as 211 is taken by reserved numbers" in transplant.out


def test_without_room_above_the_smallest_free_numbers_serve(transplant, tmp_path):
    text = with_fields(trees.PROTO_TEXT, "ScaleParameter", "extensions 6 to max;")
    assert numbers(put_in(transplant, tmp_path, text)["ScaleParameter"]) == {
        "axis": 1, "bias_filler": 5, "min_value": 2, "max_value": 3
    }  # fmt: skip


def test_a_message_without_any_number_left(transplant, tmp_path):
    text = with_fields(trees.PROTO_TEXT, "ScaleParameter", "extensions 6 to max;", "reserved 2 to 4;")
    root = make(tmp_path / "tree", {**trees.bvlc(), PROTO: text})
    assert "ScaleParameter has no number left for min_value" in transplant.refusal(root)


def test_fields_of_groups_oneofs_and_the_like_count(transplant, tmp_path):
    text = with_fields(
        trees.PROTO_TEXT,
        "LayerParameter",
        "optional group Extra = 211 { optional int32 a = 212; }",
        "oneof one { int32 b = 213; int32 c = 214; }",
        "message Inner { optional int32 d = 215; }",
        "map<int32, Inner> e = 217;",
        "optional int32 f = 0xe3;",
    )
    layer = numbers(put_in(transplant, tmp_path, text)["LayerParameter"])
    assert layer["flip_param"] == 212 and layer["general_contrastive_loss_param"] == 215
    moved = ["center_loss_param", "inner_distance_param", "normalize_param"]
    moved += ["general_triplet_loss_param", "largemargin_inner_product_param"]
    assert [layer[name] for name in moved] == [307, 308, 309, 310, 311]


@pytest.mark.parametrize(
    "shape",
    [
        "message ScaleParameter { optional int32 axis = 1; }",
        "message ScaleParameter{}",
        "message ScaleParameter {\n\toptional int32 axis = 1; // }\n\t}",
        "message ScaleParameter { // {\n    optional int32 axis = 1; /* }\n } */ }",
        "message ScaleParameter\n{\n}",
        "message ScaleParameter {\n  optional int32 axis = 1; } message Next {}",
    ],
)
def test_any_layout_of_a_message(transplant, tmp_path, shape):
    start = trees.PROTO_TEXT.index("message ScaleParameter")
    end = trees.PROTO_TEXT.index("}", start) + 1
    text = trees.PROTO_TEXT[:start] + "// message ScaleParameter {\n" + shape + trees.PROTO_TEXT[end:]
    found = numbers(put_in(transplant, tmp_path, text)["ScaleParameter"])
    assert (found["min_value"], found["max_value"]) == (6, 7)


def test_the_added_lines_are_indented_as_the_message_is(transplant, tmp_path):
    text = trees.PROTO_TEXT.replace(
        "\n  optional FillerParameter bias_filler", "\n\t optional FillerParameter bias_filler"
    )
    put_in(transplant, tmp_path, text)
    text = (tmp_path / "tree" / PROTO).read_text()
    assert "\n\t optional float min_value = 6;\n\t optional float max_value = 7;\n}\n" in text


def test_our_fields_that_are_there_keep_their_numbers(transplant, tmp_path):
    text = with_fields(
        trees.PROTO_TEXT, "ScaleParameter", "optional float max_value = 9 [default = 1e6];", "optional int32 own = 7;"
    )
    found = numbers(put_in(transplant, tmp_path, text)["ScaleParameter"])
    assert (found["min_value"], found["max_value"]) == (6, 9)
    assert "ScaleParameter.max_value has the number 9 here, the tree's own; elsewhere it is 7" in transplant.out
    assert "ScaleParameter.max_value keeps the tree's default 1e6; the face layers' has no default" in transplant.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("message", "theirs", "same"),
    [
        ("GeneralTripletParameter", "optional float positive_weight = 4 [default = 1.0];", True),  # ours: 1
        ("InnerProductParameter", "optional float normalize_eps = 8 [default = 0.000001];", True),  # ours: 1e-6
        ("InnerProductParameter", "optional float normalize_eps = 8 [default = 0.00001];", False),
        ("InnerDistanceParameter", "optional bool update_center_only = 31;", True),  # ours: false
        ("InnerDistanceParameter", "optional bool update_center_only = 31 [default = true];", False),
        ("ScaleParameter", "optional float max_value = 7 [default = 0.0];", True),  # ours: none
        ("ScaleParameter", "optional float max_value = 7 [default = -inf];", False),
        ("InnerDistanceParameter", "optional string distance_type = 29 [default = 'L2'];", True),  # ours: "L2"
        ("InnerDistanceParameter", "optional string distance_type = 29 [default = 'L1'];", False),
    ],
)
def test_defaults_are_compared_by_their_value(transplant, tmp_path, message, theirs, same):
    text = trees.PROTO_TEXT + ("" if f"message {message} {{" in trees.PROTO_TEXT else f"\nmessage {message} {{\n}}\n")
    put_in(transplant, tmp_path, with_fields(text, message, theirs))
    assert ("keeps the tree's" not in transplant.out) == same


def test_a_message_of_our_name_for_something_else_is_joined(transplant, tmp_path):
    text = trees.PROTO_TEXT + (
        "\nmessage FlipParameter {\n  optional int32 flip_width_of = 1;\n  optional .caffe.BlobShape shape = 2;\n}\n"
        "message CenterLossParameter {\n  enum CenterStep { FORK = 0; PAPER = 1; DERIVATIVE = 2; MORE = 3; }\n"
        "  optional caffe.CenterLossParameter.CenterStep center_step = 4 [default = FORK];\n}\n"
    )
    merged = put_in(transplant, tmp_path, text)
    assert numbers(merged["FlipParameter"]) == {"flip_width_of": 1, "shape": 2, "flip_width": 3, "flip_height": 4}
    assert numbers(merged["CenterLossParameter"])["center_step"] == 4
    assert len(merged["CenterLossParameter"].enum_type) == 1


@pytest.mark.parametrize(
    ("message", "declaration", "problem"),
    [
        ("ScaleParameter", "optional double max_value = 9;", "ScaleParameter.max_value is optional double here, and"),
        ("ScaleParameter", "repeated float max_value = 9;", "is repeated float here, and optional float for the face"),
        ("LayerParameter", "optional ScaleParameter flip_param = 9;", "is optional ScaleParameter here, and"),
        ("ScaleParameter", 'reserved "min_value";', "ScaleParameter reserves the name min_value; take that back"),
        ("ScaleParameter", "message max_value {}", "ScaleParameter would declare max_value twice; rename the tree's"),
        ("ScaleParameter", "optional int32 a = 1;", "ScaleParameter.a has a number, 1, of axis; change it"),
        ("ScaleParameter", "optional int32 axis = 2;", "ScaleParameter would declare axis twice"),
        ("", "enum FlipParameter { A = 0; }", "FlipParameter is an enum here and a message of the face layers"),
        ("", "message CenterLossParameter { enum CenterStep { FORK = 1; } }", "CenterStep has to have FORK = 0"),
    ],
)  # fmt: skip
def test_what_can_not_be_joined_is_refused(transplant, tmp_path, message, declaration, problem):
    text = trees.PROTO_TEXT
    text = with_fields(text, message, declaration) if message else f"{text}\n{declaration}\n"
    root = make(tmp_path / "tree", {**trees.bvlc(), PROTO: text})
    before = trees.content(root)
    refusal = transplant.refusal(root)
    assert problem in refusal and PROTO in refusal
    assert trees.content(root) == before


def test_a_type_that_the_tree_lacks_is_refused(transplant, tmp_path):
    files = {path: text for path, text in trees.bvlc().items() if "parameter_layer" not in path}
    text = files[PROTO].replace("  optional ParameterParameter parameter_param = 145;\n", "")
    text = text[: text.index("message ParameterParameter")].replace("message BlobShape", "message Shape")
    root = make(tmp_path / "tree", {**files, PROTO: text})
    assert "ParameterParameter.shape needs BlobShape, which the tree lacks" in transplant.refusal(root)


def test_messages_of_other_scopes_are_not_taken_for_ours(transplant, tmp_path):
    text = "message V1LayerParameter {\n  message ScaleParameter {\n    optional int32 min_value = 1;\n  }\n}\n"
    merged = put_in(
        transplant, tmp_path, trees.PROTO_TEXT.replace("message FillerParameter", text + "message FillerParameter")
    )
    assert numbers(merged["ScaleParameter"])["min_value"] == 6
    assert numbers(merged["V1LayerParameter"].nested_type[0]) == {"min_value": 1}


def test_numbers_of_an_earlier_transplant_are_kept():
    layers = Layers(trees.SOURCE, trees.TESTS)
    wanted = [layers.messages["LayerParameter"]._replace(fields=layers.messages["LayerParameter"].fields[:2])]
    wanted += [layers.messages[name] for name in ("CenterLossParameter", "FlipParameter")]
    result = merge.merge(trees.PROTO_TEXT, PROTO, wanted, {"LayerParameter.flip_param": 300})
    placed = {place.name: place.number for place in result.placed}
    assert (placed["flip_param"], placed["center_loss_param"]) == (300, 211)
