"""The block of version `v1`: its operations, one after the other."""

from __future__ import annotations

from ..versions import OPERATIONS
from .composed import composed

block = composed(dict.fromkeys(OPERATIONS, "v1"))
