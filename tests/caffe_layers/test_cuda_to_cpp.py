"""The translation of launches and shared variables that cuda/emulation/cuda_to_cpp.py does."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from support import caffe_trees

SCRIPT = Path(__file__).with_name("cuda") / "emulation" / "cuda_to_cpp.py"
SPEC = importlib.util.spec_from_file_location("cuda_to_cpp", SCRIPT)
cuda_to_cpp = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(cuda_to_cpp)

CONFIGURATION = "emulated_cuda::Configuration"

LAUNCHES = {
    "template": (
        "Kernel<Dtype><<<blocks, threads>>>(n, x);",
        f'emulated_cuda::launcher("Kernel<Dtype>", Kernel<Dtype>, {CONFIGURATION}(blocks, threads))(n, x);',
    ),
    "plain": (
        "if (n) Kernel<<<1, 2>>> (n);",
        f'if (n) emulated_cuda::launcher("Kernel", Kernel, {CONFIGURATION}(1, 2)) (n);',
    ),
    "commas and comparisons": (
        "K<A<int, 3>, (4 > 2)><<<f(a, b), n > 3 ? 1 : 2, n * sizeof(B<C<int>>) >> 1, stream>>>(n);",
        f'emulated_cuda::launcher("K<A<int, 3>, (4 > 2)>", K<A<int, 3>, (4 > 2)>, '
        f"{CONFIGURATION}(f(a, b), n > 3 ? 1 : 2, n * sizeof(B<C<int>>) >> 1, stream))(n);",
    ),
    "namespaces": (
        "return ::caffe::S<int>::K<Dtype><<<1, 2>>>(n);",
        f'return emulated_cuda::launcher("::caffe::S<int>::K<Dtype>", ::caffe::S<int>::K<Dtype>, '
        f"{CONFIGURATION}(1, 2))(n);",
    ),
    "lines and comments between": (
        "Kernel<Dtype>  // NOLINT <<<\n    <<<blocks,  /* >>> */\n    threads>>>(\n    n);",
        'emulated_cuda::launcher("Kernel<Dtype>", Kernel<Dtype>  // NOLINT <<<\n'
        f"    , {CONFIGURATION}(blocks,  /* >>> */\n    threads))(\n    n);",
    ),
    "in a macro": (
        "#define RUN(name) \\\n  name##_kernel<float><<<1, 2>>>( \\\n      n)",
        '#define RUN(name) \\\n  emulated_cuda::launcher("name##_kernel<float>", name##_kernel<float>, '
        f"{CONFIGURATION}(1, 2))( \\\n      n)",
    ),
    "template arguments to be deduced": (
        "template <typename A, typename B> __global__ void K(A a, B b) {}\nK<int><<<1, 2>>>(3, x);",
        "template <typename A, typename B> __global__ void K(A a, B b) {}\n"
        'emulated_cuda::deducing_launcher("K<int>", [](auto... arguments) { K<int>(arguments...); }, '
        f"{CONFIGURATION}(1, 2))(3, x);",
    ),
}


@pytest.mark.parametrize("source, expected", LAUNCHES.values(), ids=LAUNCHES)
def test_launch(source, expected):
    assert cuda_to_cpp.translate(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        "// K<<<1, 2>>>(n); __shared__ int x;\n",
        "/* K<<<1, 2>>>(n);\n */",
        'const char* text = "K<<<1, 2>>>(n); \\" <<<";',
        'auto text = R"x(K<<<1, 2>>>(")" <<<)x";',
        "int n = 1'000 << 2; char c = '\"'; int m = n >> 1 << 3;",
        "std::vector<std::vector<std::vector<int>>> x;",
    ],
)
def test_everything_else_stays(source):
    assert cuda_to_cpp.translate(source) == source
    assert not cuda_to_cpp.needs_translation(source)


def entered(name: str) -> str:
    return f" {{ static emulated_cuda::Tag tag; tag.enter(&{name}, sizeof({name})); }}"


SHARED = {
    "array": ("__shared__ Dtype x[32];", f"static Dtype x[32];{entered('x')}"),
    "several": (
        "__shared__ volatile float a[3][N < 4 ? 3 : 2], b;",
        f"static volatile float a[3][N < 4 ? 3 : 2], b;{entered('a')}{entered('b')}",
    ),
    "static": ("static __shared__ int x;", f"static  int x;{entered('x')}"),
    "of a template": (
        "__shared__ typename cub::BlockReduce<Dtype, N>::TempStorage temp;",
        f"static typename cub::BlockReduce<Dtype, N>::TempStorage temp;{entered('temp')}",
    ),
    "dynamic": (
        "extern __shared__ __align__(16) unsigned char raw[];",
        "unsigned char* const raw = static_cast<unsigned char*>(emulated_cuda::dynamic_shared());",
    ),
}


@pytest.mark.parametrize("source, expected", SHARED.values(), ids=SHARED)
def test_shared(source, expected):
    frame = "namespace caffe {{\n__global__ void K() {{\n  {}\n}}\n}}\n"
    assert cuda_to_cpp.translate(frame.format(source)) == frame.format(expected)


@pytest.mark.parametrize(
    "source, message",
    [
        ("void f() {\n  (a ? b : c)<<<1, 2>>>(n);\n}", r"line 2: expected kernel<<<grid, threads>>>"),
        ("void f() {\n  K<<<1, 2>>(n);\n}", r"line 2: expected kernel<<<grid, threads>>>"),
        ("void f() {\n\n  K<<<1, 2>>>;\n}", r"line 3: expected \( after >>>"),
        ("namespace a {\n__shared__ int x;\n}", r"line 2: .*in functions only"),
        ("__shared__ int x;", r"line 1: .*in functions only"),
        ("void f() {\n  __shared__ int x = 3;\n}", r"line 2: a __shared__ variable has no initial value"),
        ("void f() {\n  extern __shared__ int x;\n}", r"line 2: expected extern __shared__ type name\[\];"),
    ],
)
def test_refused(tmp_path, source, message):
    path = tmp_path / "kernel.cu"
    path.write_text(source)
    with pytest.raises(SystemExit, match=f"kernel.cu: {message}"):
        cuda_to_cpp.main([str(path), str(tmp_path / "out.cpp")])


def test_a_file_keeps_its_lines(tmp_path):
    path = tmp_path / "kernel.cu"
    path.write_text("\n\nvoid f() {\n  K<<<1,\n     2>>>(n);\n}\n")
    cuda_to_cpp.main([str(path), str(tmp_path / "out.cpp")])
    written = (tmp_path / "out.cpp").read_text()
    assert written.startswith(f'#line 1 "{path}"\n\n\nvoid f() {{\n')
    assert written.count("\n") == path.read_text().count("\n") + 1


def test_headers(tmp_path):
    """Only those with a launch or a shared variable; the first folder's, of two with one name."""
    first, second, out = tmp_path / "first", tmp_path / "second", tmp_path / "out"
    for path, text in (
        (first / "a/x.cuh", "inline void f() { __shared__ int one; }"),
        (first / "a/y.hpp", "int plain;"),
        (second / "a/x.cuh", "inline void f() { __shared__ int two; }"),
        (second / "a/y.hpp", "#define Y K<<<1, 2>>>(n)"),
        (second / "a/z.hpp", "#define Z K<<<1, 2>>>(n)"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    arguments = ["--headers", str(first), str(second), str(out)]
    cuda_to_cpp.main(arguments)
    found = {str(path.relative_to(out)): path for path in out.rglob("*") if path.is_file()}
    assert set(found) == {"a/x.cuh", "a/z.hpp"}
    assert "one" in found["a/x.cuh"].read_text()
    before = found["a/x.cuh"].stat().st_mtime_ns
    (second / "a/z.hpp").write_text("int plain;")
    cuda_to_cpp.main(arguments)
    assert found["a/x.cuh"].stat().st_mtime_ns == before  # so that nothing is compiled again for nothing
    assert not found["a/z.hpp"].exists()


def functions_on_the_device(path: Path) -> set[str]:
    code = cuda_to_cpp.code_only(path.read_text())
    return set(re.findall(r"\b__(?:global|device)__\b[^;{}()]*?(\w+)\s*\(", code))


def test_names_of_kernels(caffe_tree):
    """Two kernels or device functions of one name in two files of a program: a CUDA before 13, and this emulation, may
    take one for the other."""
    owners: dict[str, list[str]] = {}
    for path in (caffe_tree.copy / "src" / "caffe").rglob("*.cu"):
        for name in functions_on_the_device(path):
            owners.setdefault(name, []).append(path.name)
    ours = {path.name for path in (caffe_trees.REPOSITORY / "caffe_layers").rglob("*.cu")}
    assert any(ours & set(files) for files in owners.values())
    assert {name: files for name, files in owners.items() if len(files) > 1 and ours & set(files)} == {}
