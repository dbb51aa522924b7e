"""The block of version `reference`: its operations, one after the other."""

from __future__ import annotations

from ..versions import OPERATIONS
from .composed import composed

block = composed(dict.fromkeys(OPERATIONS, "reference"))
