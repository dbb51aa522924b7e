from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from phase8_tune.kernels.kernel_set import load
from phase8_tune.kernels.versions import (
    KERNEL_VERSIONS,
    OPERATIONS,
    UnsupportedVersionError,
    implementation,
)


def test_names_need_no_torch() -> None:
    code = "import sys, phase8_tune.kernels.versions; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_names_are_those_of_the_design() -> None:
    assert KERNEL_VERSIONS == ("reference", "v1", "v2", "fast")


@pytest.mark.parametrize("version", KERNEL_VERSIONS)
def test_every_operation_has_the_signature_of_the_reference(version: str) -> None:
    for operation in OPERATIONS:
        expected = inspect.signature(implementation(operation, "reference")).parameters
        given = inspect.signature(implementation(operation, version)).parameters
        assert list(given)[: len(expected)] == list(expected)[: len(given)]
        required = {name for name, p in expected.items() if p.default is inspect.Parameter.empty}
        assert required <= set(given)


@pytest.mark.parametrize("version", KERNEL_VERSIONS)
def test_load_takes_the_functions_of_the_table(version: str) -> None:
    kernels = load(version)
    assert kernels.version == version
    for operation in OPERATIONS:
        assert getattr(kernels, operation) is implementation(operation, version)


def test_a_choice_for_one_operation_leaves_the_others_to_the_reference() -> None:
    kernels = load({"layer_norm": "fast", "mix_norm": "v1"})
    assert kernels.version == "layer_norm=fast,mix_norm=v1"
    assert kernels.layer_norm is implementation("layer_norm", "fast")
    assert kernels.layer_norm is not implementation("layer_norm", "reference")
    assert kernels.mix_norm is implementation("mix_norm", "reference")
    assert kernels.bk_scan is implementation("bk_scan", "reference")


def test_unknown_names_say_what_there_is() -> None:
    with pytest.raises(UnsupportedVersionError, match=r"expected one of reference, .*got 'v9'"):
        load("v9")
    with pytest.raises(UnsupportedVersionError, match=r"operation: expected one of htt_embedding"):
        load({"softmax": "fast"})
    with pytest.raises(UnsupportedVersionError, match=r"version of bk_scan: expected one of reference, v1"):
        load({"bk_scan": "v9"})
