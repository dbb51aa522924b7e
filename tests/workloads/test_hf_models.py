"""Which models of transformers are known, found by name or path, and refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from phase8_tune.tuner.builtin.hf.known_models import known_models, model_size, read_config, read_model
from phase8_tune.tuner.builtin.hf.training import build
from phase8_tune.tuner.values.errors import UserInputError
from phase8_tune.tuner.workloads.training import Build

CPU = torch.device("cpu")


def asked(model: str, **axes: str | int | bool) -> Build:
    return Build(model=model, batch_size=1, axes={"n_seq": 16, **axes}, device=CPU)


def test_every_known_model_has_its_published_number_of_parameters():
    """Exactly, but where others round, or leave out rows of a table: OPT's has two more positions."""
    pytest.importorskip("transformers", reason="needs the extra hf")
    exact = 0
    for name, known in known_models().items():
        with FakeTensorMode():
            (model,) = build(asked(name)).modules
        count = sum(p.numel() for p in model.parameters())
        exact += count == known.published
        assert count == pytest.approx(known.published, rel=0.03), name
        assert count < 3e9, name
    assert exact >= 13


def test_a_name_counts_in_any_case_and_has_its_source():
    assert read_model("QWEN2.5-0.5b") == "Qwen2.5-0.5B"
    assert read_model(7) == 7
    assert len(known_models()) >= 20
    for known in known_models().values():
        assert known.source
        assert read_model(known.name) == known.name
        assert read_config(known.name)["model_type"]


def test_a_path_is_a_name_too(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    monkeypatch.chdir(tmp_path)
    absolute = str((tmp_path / "config.json").resolve())
    assert {read_model(text) for text in (".", "config.json", absolute, str(tmp_path))} == {absolute}
    assert read_config(absolute) == {"model_type": "llama"}


def test_what_is_no_model_is_said_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"^expected one of gpt2, .*'gpt3'; did you mean gpt2\?; or give a"):
        read_model("gpt3")
    with pytest.raises(ValueError, match=r"expected a folder with a config\.json, but it has none"):
        read_model(str(tmp_path))


def test_models_are_put_in_order_by_their_size():
    names = sorted(["gpt2-xl", "/somewhere/config.json", "SmolLM2-135M", "gpt2"], key=model_size)
    assert names == ["gpt2", "SmolLM2-135M", "gpt2-xl", "/somewhere/config.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected JSON, got: "),
        ("[1]", 'expected an object with "model_type"'),
        ('{"hidden_size": 8}', 'expected an object with "model_type"'),
        ('{"model_type": "of_my_own"}', "model_type 'of_my_own' is not known to transformers"),
        ('{"model_type": "vit"}', "expected a causal language model, got the model_type 'vit'"),
        ('{"model_type": "llama", "quantization_config": {}}', "expected weights that can be trained"),
    ],
)
def test_a_configuration_that_makes_no_model_is_said_in_one_line(tmp_path: Path, content, message):
    pytest.importorskip("transformers", reason="needs the extra hf")
    file = tmp_path / "config.json"
    file.write_text(content)
    with pytest.raises(UserInputError, match=message) as caught:
        build(asked(str(file)))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_gone_is_said(tmp_path):
    with pytest.raises(UserInputError, match=r"expected a readable config\.json, got: No such file"):
        read_config(str(tmp_path / "config.json"))


@pytest.mark.parametrize(("library", "rank"), [("transformers", 0), ("peft", 4)])
def test_a_library_that_is_missing_is_said_with_its_command(monkeypatch, tmp_path, library, rank):
    if library == "peft":
        pytest.importorskip("transformers", reason="needs the extra hf")
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": "llama", "vocab_size": 16, **shape}))
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserInputError, match=rf"needs {library}, .*: pip install phase8-tune\[hf\]$"):
        build(asked(str(file), lora_rank=rank))


def test_describing_the_workloads_loads_no_torch():
    code = (
        "import sys\n"
        "from phase8_tune.tuner.builtin.hf import arguments, spec\n"
        "from phase8_tune.tuner.builtin.transformer import spec\n"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
