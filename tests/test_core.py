"""The core as a whole: what it imports, and that its types are written down and checked."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import jaxtyping
import pytest
import torch

import structattn_minimal as sa

MODULES = sorted(Path(sa.__file__).parent.glob("*.py"))
TORCH_S_OWN = {"self", "dtype", "device", "generator"}  # handed on to torch as they come


def imported(path):
    """The packages that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_the_core_imports_torch_and_jaxtyping_alone(path):
    outside = {name.split(".")[0] for name in imported(path) if not name.startswith(".")}
    allowed = {"torch", "jaxtyping"} | ({"triton"} if path.stem.endswith("kernel_triton") else set())
    assert outside - set(sys.stdlib_module_names) <= allowed


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_the_core_imports_no_room_above_it(path):
    inside = {name.lstrip(".").split(".")[0] for name in imported(path) if name.strip(".") and name.startswith(".")}
    assert inside <= {module.stem for module in MODULES}


def test_importing_the_package_imports_no_extra():
    extras = ["structattn_minimal.viz", "structattn_minimal.experiments", "exercises"]
    extras += ["anywidget", "beartype", "ipywidgets", "matplotlib", "plotly", "scipy"]
    code = f"import sys, structattn_minimal; print([name for name in {extras!r} if name in sys.modules])"
    root = Path(sa.__file__).parents[1]
    loaded = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_every_public_name_is_there_and_documented():
    for name in sa.__all__:
        assert getattr(sa, name).__doc__, name


def public_functions():
    for name in sa.__all__:
        thing = getattr(sa, name)
        if inspect.isclass(thing):
            yield f"{name}.__init__", thing.__init__
            for method, function in vars(thing).items():
                if inspect.isfunction(function) and not method.startswith("_"):
                    yield f"{name}.{method}", function
        else:
            yield name, thing


def is_typed(function):
    signature = inspect.signature(function)
    parameters = [p for p in signature.parameters.values() if p.name not in TORCH_S_OWN]
    returns = function.__name__ == "__init__" or signature.return_annotation is not inspect.Signature.empty
    return returns and all(p.annotation is not inspect.Parameter.empty for p in parameters)


def overrides_a_typed_method(name):
    """A family's own `multiply`, a layer's own `attend`: the base class has written down their shapes."""
    cls, _, method = name.partition(".")
    bases = [base for base in getattr(sa, cls).__mro__[1:] if base.__module__.startswith("structattn")]
    return any(is_typed(vars(base)[method]) for base in bases if method in vars(base))


@pytest.mark.parametrize(("name", "function"), list(public_functions()), ids=[name for name, _ in public_functions()])
def test_every_public_function_has_types(name, function):
    assert is_typed(function) or overrides_a_typed_method(name)


def test_shapes_are_checked_while_the_tests_run():
    q, k = torch.randn(2, 8, 4), torch.randn(2, 8, 5)
    with pytest.raises(jaxtyping.TypeCheckError):
        sa.mlr_attention(q, k, q, (2, 2))
    with pytest.raises(jaxtyping.TypeCheckError):
        sa.mlr_attention(q, q, q, "22")
    with pytest.raises(jaxtyping.TypeCheckError):
        sa.StandardAttention(16, 4)(torch.randn(2, 3, 16, 16))


def test_shapes_are_left_to_the_errors_of_the_package_where_checks_are_off(unchecked):
    with pytest.raises(ValueError, match="k must have the shape of q"):
        sa.mlr_attention(torch.randn(2, 8, 4), torch.randn(2, 8, 5), torch.randn(2, 8, 4), (2, 2))
