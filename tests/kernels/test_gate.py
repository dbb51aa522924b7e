from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from phase8_tune.kernels import gate
from phase8_tune.kernels.gate import check_operation, check_version, poisoned_memory
from phase8_tune.kernels.gate_draws import ODD_SHAPES, GateShape
from phase8_tune.kernels.layer_norm.reference import layer_norm
from phase8_tune.kernels.versions import OPERATIONS, implementation

TINY = (GateShape(batch=1, n_seq=3, d_model=24, n_heads=2),)


def check_layer_norm(
    monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any], dtype: torch.dtype = torch.float32
) -> gate.GateResult:
    """The gate's verdict on a version "fast" of layer_norm that is `function`."""

    def stand_in(operation: str, version: str) -> Callable[..., Any]:
        return function if version == "fast" else implementation(operation, version)

    monkeypatch.setattr(gate, "implementation", stand_in)
    return check_operation("layer_norm", "fast", torch.device("cpu"), dtype, TINY)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_reference_passes_at_every_odd_shape(dtype: torch.dtype, device: torch.device) -> None:
    results = check_version("reference", device, [dtype])
    assert [result.operation for result in results] == list(OPERATIONS)
    assert all(result.ok for result in results), results
    assert all(0 < result.worst_ratio <= 0.5 for result in results), (
        results
    )  # its own error, half of the budget


def test_odd_shapes_are_odd() -> None:
    assert any(shape.n_seq == 1 for shape in ODD_SHAPES)
    assert all(shape.d_model & (shape.d_model - 1) for shape in ODD_SHAPES)
    assert any(shape.batch == 1 and shape.n_seq > shape.window for shape in ODD_SHAPES)


def test_a_wrong_output_fails_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def off(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return layer_norm(x, weight, bias) * (1 + 1e-5)

    result = check_layer_norm(monkeypatch, off)
    assert not result.ok
    assert result.failures[0].tensor == "output 0 at B=1 N=3 d=24 H=2"
    assert result.failures[0].error == pytest.approx(1e-5, rel=0.1)
    assert result.worst_ratio == pytest.approx(max(f.error / f.budget for f in result.failures))


def test_a_wrong_gradient_fails_though_the_output_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    def detached(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return layer_norm(x, weight + 0.01 * (weight - weight.detach()), bias)

    result = check_layer_norm(monkeypatch, detached)
    assert [failure.tensor.split(" at ")[0] for failure in result.failures] == ["gradient of weight"]


def test_a_missing_gradient_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    result = check_layer_norm(monkeypatch, lambda x, w, b: layer_norm(x, w, b.detach()))
    assert [failure.tensor.split(" at ")[0] for failure in result.failures] == ["gradient of bias"]
    assert result.failures[0].error == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_element_that_is_not_finite_fails(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    def spoiled(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        spoil = torch.zeros(x.shape, dtype=x.dtype)
        spoil.view(-1)[-1] = value
        return layer_norm(x, weight, bias) + spoil

    result = check_layer_norm(monkeypatch, spoiled)
    assert [failure.tensor.split(" at ")[0] for failure in result.failures] == ["output 0"]


def test_an_element_that_is_never_written_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        hole = torch.empty(x.shape, dtype=x.dtype)
        hole.view(-1)[1:] = 0
        return layer_norm(x, weight, bias) + hole

    assert not check_layer_norm(monkeypatch, forgetful).ok


def test_another_dtype_of_the_output_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    result = check_layer_norm(monkeypatch, lambda x, w, b: layer_norm(x, w, b).float(), torch.float16)
    assert "output 0" in result.failures[0].tensor


def test_a_failure_is_confirmed_by_more_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []

    def draws_of(error_of_call: Callable[[int], float]) -> tuple[bool, int]:
        def version(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            calls.append(error_of_call(len(calls)))
            return layer_norm(x, weight, bias) * (1 + calls[-1])

        calls.clear()
        return check_layer_norm(monkeypatch, version).ok, len(calls)

    assert draws_of(lambda _: 0.0) == (True, 3)
    assert draws_of(lambda _: 1e-5) == (False, 16)
    assert draws_of(lambda call: 1e-6 if call == 0 else 0.0) == (True, 16)  # one unlucky draw of 16
    assert draws_of(lambda call: float("nan") if call == 0 else 0.0) == (False, 3)


def test_poison_is_only_inside() -> None:
    before = torch.get_deterministic_debug_mode()
    with poisoned_memory():
        assert torch.empty(3).isnan().all()
    assert torch.get_deterministic_debug_mode() == before


def test_every_operation_has_inputs_with_each_leaf_used() -> None:
    for operation in OPERATIONS:
        result = check_operation(operation, "reference", torch.device("cpu"), torch.float32, TINY, draws=1)
        assert result.ok
