"""What calibration measures, by the steps of a device that is made up."""

from __future__ import annotations

import weakref
from types import SimpleNamespace

from phase8_tune.tuner.predict.rate.calibration import _workspace_bytes


class Tensor:
    """So many bytes, given back when nobody has it any more."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes


class Device:
    """A torch whose products take bytes, and whose first product of each interface takes a workspace."""

    def __init__(self, workspaces: dict[str, int]) -> None:
        self._allocated = 0
        self._workspaces = dict(workspaces)
        self.cuda = SimpleNamespace(memory_allocated=lambda: self._allocated)

    def zeros(self, *shape: int, device: str) -> Tensor:
        nbytes = 4
        for size in shape:
            nbytes *= size
        return self._made(nbytes)

    def mm(self, a: Tensor, b: Tensor) -> Tensor:
        self._allocated += self._workspaces.pop("mm", 0)
        return self._made(a.nbytes)

    def addmm(self, bias: Tensor, a: Tensor, b: Tensor) -> Tensor:
        self._allocated += self._workspaces.pop("addmm", 0)
        return self._made(a.nbytes)

    def _made(self, nbytes: int) -> Tensor:
        tensor = Tensor(nbytes)
        self._allocated += nbytes
        weakref.finalize(tensor, self._free, nbytes)
        return tensor

    def _free(self, nbytes: int) -> None:
        self._allocated -= nbytes


def test_workspaces_are_what_is_left_beside_the_products() -> None:
    assert _workspace_bytes(Device({"mm": 32 << 20, "addmm": 1 << 20})) == (32 << 20, 1 << 20)
    assert _workspace_bytes(Device({"mm": 8_519_680})) == (8_519_680, 0)
