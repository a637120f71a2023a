"""transplant.py in C++ files of a tree: the filler, registrations, and what it takes for code."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest
from support import transplant_trees as trees
from support.transplant_trees import FILLER, Transplant, make
from transplanting.registry import registrations, without
from transplanting.source_text import code_of

BRANCH = 'if (type == "gaussian_unitball") {\n    return new GaussianUnitballFiller<Dtype>(param);\n  }\n'


@pytest.fixture
def transplant(tmp_path, capsys, monkeypatch) -> Transplant:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # slow, and no machine fails here
    return Transplant(*trees.stub_layers(tmp_path / "layers"), capsys)


def filler(transplant, tmp_path, text: str, newline: str = "\n") -> str:
    """filler.hpp of a BVLC-like tree with that ``text`` there, afterwards."""
    root = make(tmp_path / "tree", {**trees.bvlc(), FILLER: text}, newline)
    assert transplant(root) == 0, transplant.error
    return (root / FILLER).read_bytes().decode()


def test_the_filler_comes_before_getfillers_comment_and_is_chosen_first(transplant, tmp_path):
    text = filler(transplant, tmp_path, trees.FILLER_TEXT)
    class_text = (trees.SOURCE / "include/caffe/gaussian_unitball_filler.inc").read_text()
    head, rest = text.split(class_text)
    assert head == trees.FILLER_TEXT[: len(head)] and head.endswith("};\n\n")
    assert rest.startswith("\n/**\n * @brief Get a specific filler.\n")
    assert f"const std::string& type = param.type();\n  {BRANCH}  if (type ==" in rest
    assert text.replace(class_text + "\n", "").replace(f"  {BRANCH}", "") == trees.FILLER_TEXT


STUBS = """
#include <cmath>
#include <ostream>
#include <string>
#include <vector>
#define CHECK_GT(a, b) std::ostream(0)
#define CHECK_EQ(a, b) std::ostream(0)
#define CHECK(a) std::ostream(0)
struct FillerParameter { std::string type() const { return ""; } int sparse() const { return -1; } };
template <typename Dtype> struct Blob {
  int count() const { return 1; } int num_axes() const { return 1; } int shape(int) const { return 1; }
  Dtype* mutable_cpu_data() { return 0; }
};
template <typename Dtype> struct Filler {
  explicit Filler(const FillerParameter& param) : filler_param_(param) {}
  virtual ~Filler() {}
  virtual void Fill(Blob<Dtype>*) {}
  FillerParameter filler_param_;
};
template <typename Dtype> void caffe_rng_gaussian(int, Dtype, Dtype, Dtype*) {}
template <typename Dtype> Dtype caffe_cpu_dot(int, const Dtype*, const Dtype*) { return 0; }
template <typename Dtype> void caffe_scal(int, Dtype, Dtype*) {}
using std::sqrt;
"""


@pytest.mark.slow
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_filler_compiles(transplant, tmp_path, newline):
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    constructor = " public:\n  explicit ConstantFiller(const FillerParameter& p) : Filler<Dtype>(p) {}\n"
    text = trees.FILLER_TEXT.replace("public Filler<Dtype> {\n", "public Filler<Dtype> {\n" + constructor)
    made = filler(transplant, tmp_path, text, newline)
    use = "template caffe::Filler<float>* caffe::GetFiller<float>(const FillerParameter&);\n"
    made = made.replace("namespace caffe {", "namespace caffe { using ::Filler; using ::Blob;", 1)
    (tmp_path / "use.cpp").write_bytes((STUBS + made + use.replace("caffe::Filler", "Filler")).encode())
    command = ["g++", "-std=c++11", "-fsyntax-only", str(tmp_path / "use.cpp")]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert result.returncode == 0, result.stdout


FUNCTION = (
    "template <typename Dtype>\nFiller<Dtype>* GetFiller(const FillerParameter& param) {\n%s\n  return NULL;\n}\n"
)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        # The type has another name, or none.
        (FUNCTION % "  string kind = param.type();", "kind = param.type();\n  if (kind =="),
        (FUNCTION % "  const auto & t=param . type( ) ; // }\n  go(t);", "// }\n  if (t =="),
        (FUNCTION % '  if (param.type() == "a") { return 0; }', '{\n  if (param.type() == "gaussian_unitball"'),
        (FUNCTION % "  if (x) { string type = param.type(); }", '{\n  if (param.type() == "gaussian_unitball"'),
        (FUNCTION % "  // string type = param.type();", '{\n  if (param.type() == "gaussian_unitball"'),
        (FUNCTION % "  string type = param.type(); use(type);", "type = param.type();\n  if (type =="),
        # A statement before it.
        (
            FUNCTION % "  if (e) { x(); }\n  const std::string &type = param.type();\n  y();",
            "param.type();\n  if (type ==",
        ),
        # The function looks otherwise.
        (
            (FUNCTION % "").replace("typename Dtype", "class T").replace("<Dtype>", "<T>"),
            "GaussianUnitballFiller<T>(param)",
        ),
        ((FUNCTION % "").replace("& param", " &p"), "GaussianUnitballFiller<Dtype>(p);"),
        ((FUNCTION % "").replace("Dtype>\nFiller<Dtype>* ", "Dtype> inline\nFiller< Dtype > *\n"), "(param.type() =="),
        (
            "template <typename Dtype>\nFiller<Dtype>* GetFiller(const FillerParameter& param);\n" + FUNCTION % "",
            "new Gauss",
        ),
        ((FUNCTION % "").replace("\n", " ").rstrip(), 'param) {\n  if (param.type() == "gaussian_unitball"'),
    ],
)
def test_the_choice_finds_its_place(transplant, tmp_path, function, expected):
    text = f"namespace caffe {{\n/* template <class T> Filler<T>* GetFiller(const */\n{function}}}  // namespace\n"
    made = filler(transplant, tmp_path, text)
    assert expected in made
    assert made.count("new GaussianUnitballFiller") == 1
    assert made.index("class GaussianUnitballFiller") < made.index("new GaussianUnitballFiller")
    code = code_of(made)
    assert code.count("{") == code.count("}") and code.count("(") == code.count(")")


@pytest.mark.parametrize(
    ("above", "stays"),
    [
        ("// Of the class before.\n\n", True),
        ("};  // end\n", True),
        ("// One.\n// Two.\n", False),
        ("/* One. */\n// Two.\n", False),
        ("  /** One. */\n", False),
    ],
)
def test_only_the_comment_of_getfiller_goes_with_it(transplant, tmp_path, above, stays):
    made = filler(transplant, tmp_path, "namespace caffe {\n" + above + FUNCTION % "" + "}\n")
    assert (above in made.split("/// @brief Rows of")[0]) is stays


def test_a_tree_with_that_filler_keeps_it(transplant, tmp_path):
    text = trees.FILLER_TEXT.replace('"constant"', '"gaussian_unitball"')
    assert filler(transplant, tmp_path, text) == text
    assert "the filler gaussian_unitball is the tree's own" in transplant.out


def test_a_comment_about_the_filler_is_not_the_filler(transplant, tmp_path):
    text = trees.FILLER_TEXT.replace("namespace caffe {", '// TODO: "gaussian_unitball"\nnamespace caffe {', 1)
    assert BRANCH in filler(transplant, tmp_path, text)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no GetFiller of the known shape"),
        (
            (FUNCTION % "").replace("Filler<Dtype>*", "shared_ptr<Filler<Dtype> >"),
            "has no GetFiller of the known shape",
        ),
        (FUNCTION % "  {", "has no GetFiller of the known shape"),
        (FUNCTION % "" + FUNCTION % "", "defines GetFiller more than once"),
        ("class GaussianUnitballFiller {};" + FUNCTION % "", "has a class GaussianUnitballFiller, but no"),
    ],
)
def test_a_filler_hpp_of_another_shape_is_refused(transplant, tmp_path, text, problem):
    root = make(tmp_path / "tree", {**trees.bvlc(), FILLER: text})
    refusal = transplant.refusal(root)
    assert refusal.startswith(f"{FILLER} {problem}")


def test_what_counts_as_code():
    text = (
        'a // b \\\n b\n/* c\n*/ d "e\\"/*" \'f\' \'"\' 1\'000\'000 R"x(g)" )x" h\n#if 0\ni\n#ifdef j\nk\n#else\nl\n'
        "#endif\n"
        "#else\nm\n#endif\n#error don't\nn\n"
    )
    code = code_of(text)
    assert len(code) == len(text) and code.count("\n") == text.count("\n")
    assert code.split() == ["a", "d", "1'000'000", "h", "#if", "0", "m", "#endif", "#error", "don't", "n"]
    assert '"e\\"/*"' in code_of(text, keep_strings=True)


def found(text: str) -> list[tuple[str, bool]]:
    return [(each.type, each.by_class) for each in registrations(text, "x.cpp")]


def test_registrations_are_found_in_code_only():
    text = (
        "// REGISTER_LAYER_CLASS(A);\n/* REGISTER_LAYER_CLASS(B); */\n"
        "#define REGISTER_LAYER_CLASS(type) \\\n  REGISTER_LAYER_CREATOR(type, Get##type)\n"
        '#if 0\nREGISTER_LAYER_CLASS(C);\n#endif\nconst char* d = "REGISTER_LAYER_CLASS(D);";\n'
        "REGISTER_LAYER_CLASS (\n  E );\n  REGISTER_LAYER_CREATOR( F , GetF<int>)\nMY_REGISTER_LAYER_CLASS(G);\n"
    )
    assert found(text) == [("E", True), ("F", False)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("REGISTER_LAYER_CLASS(A);", "// REGISTER_LAYER_CLASS(A);  // chosen by b.cpp"),
        ("\tREGISTER_LAYER_CLASS( A ) ;\r", "\t// REGISTER_LAYER_CLASS( A ) ;  // chosen by b.cpp\r"),
        ("REGISTER_LAYER_CLASS(A)", "// REGISTER_LAYER_CLASS(A)  // chosen by b.cpp"),
        ("f(); REGISTER_LAYER_CLASS(A); // c", "f(); // REGISTER_LAYER_CLASS(A);  // chosen by b.cpp // c"),
        ("REGISTER_LAYER_CLASS(A); }", "/* REGISTER_LAYER_CLASS(A);  chosen by b.cpp */ }"),
        ("REGISTER_LAYER_CLASS(A); // \\", "/* REGISTER_LAYER_CLASS(A);  chosen by b.cpp */ // \\"),
        ("REGISTER_LAYER_CLASS(A); /* c */", "/* REGISTER_LAYER_CLASS(A);  chosen by b.cpp */ /* c */"),
        ("REGISTER_LAYER_CLASS(\n  A);", "/* REGISTER_LAYER_CLASS(\n  A);  chosen by b.cpp */"),
    ],
)
def test_a_registration_is_commented_out_in_place(line, expected):
    text = f"x();\n{line}\ny();\n"
    made = without(text, registrations(text, "x.cpp")[0], "b.cpp")
    assert made == f"x();\n{expected}\ny();\n"
    assert found(made) == []
    assert code_of(made).split() == re.sub(r"REGISTER_LAYER_CLASS\s*\([^)]*\)\s*;?", "", code_of(text)).split()
