"""Scratch memory that an operation takes while it runs, declared so that it can be predicted without a GPU.

An operation of ours (`torch.library.custom_op`) needs no declaration as a rule: the predictor runs its Python
body on fake tensors with the kernel launches left out, and so sees what it allocates, in order. Declare only
where the body cannot run on fake tensors: where its allocations depend on values (`item()`, `unique`), or
where a library allocates inside. Then the operation's fake implementation stands for its outputs, and the
declared sizes for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

ScratchRule = Callable[..., Sequence[int]]
"""Arguments of the operation → sizes in bytes of what it holds beside its outputs, all at the same time, and
gives back before it returns."""

_RULES: dict[str, ScratchRule] = {}


def declare_scratch(operation: str, rule: ScratchRule) -> None:
    """Say what an operation, for example "phase8::htt_embedding_v2_backward", takes beside its outputs.

    Raises: ValueError for a name without namespace, or one declared before.
    """
    if operation.count("::") != 1:
        raise ValueError(f"operation: expected namespace::name, got {operation!r}")
    if operation in _RULES:
        raise ValueError(f"operation: {operation} has declared its scratch memory already")
    _RULES[operation] = rule


def scratch_rule(operation: str) -> ScratchRule | None:
    """The rule that an operation has declared, None where it has none."""
    return _RULES.get(operation)
