"""The names that the model's package shows: known to a type checker, and without torch until one needs it."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap

import pytest

from phase8_tune import phase8
from phase8_tune.phase8 import Phase8Config, Phase8Model, Trainer, TrainingOptions, preset

PUBLIC = {Phase8Config, Phase8Model, Trainer, TrainingOptions, preset}


def run(code: str) -> str:
    """What a program prints in a process of its own, which has loaded nothing before."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def example() -> str:
    """The indented lines of the package's docstring."""
    lines = (phase8.__doc__ or "").splitlines()
    return textwrap.dedent("\n".join(line for line in lines if line.startswith("    ")))


def test_the_names_are_what_their_modules_define() -> None:
    assert {getattr(phase8, name) for name in phase8.__all__} == PUBLIC
    assert [name for name in phase8.__all__ if name not in dir(phase8)] == []
    assert preset("nano", n_seq=64) == Phase8Config(d_model=128, n_layers=4, n_heads=2, n_seq=64, htt_rank=8)


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'phase8_tune\.phase8' has no attribute 'Phase9Model'"):
        phase8.Phase9Model  # noqa: B018


def test_torch_is_loaded_when_a_name_needs_it() -> None:
    code = """
        import sys
        from phase8_tune import phase8
        loaded = ["torch" in sys.modules]
        names = dir(phase8)
        from phase8_tune.phase8 import Phase8Config, preset
        assert isinstance(preset("small", n_seq=256), Phase8Config)
        loaded.append("torch" in sys.modules)
        phase8.Phase8Model
        loaded.append("torch" in sys.modules)
        print(*loaded, set(phase8.__all__) <= set(names))
    """
    assert run(textwrap.dedent(code)).split() == ["False", "False", "True", "True"]


def test_the_example_of_the_docstring_runs() -> None:
    assert len(ast.parse(example()).body) == 5
    loss = float(run(f"{example()}\nprint(float(loss))"))
    assert 9 < loss < 12  # an untrained model guesses among 50,257 tokens: ln of that is 10.8
