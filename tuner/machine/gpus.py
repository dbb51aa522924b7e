"""Which GPUs a study runs on: `all`, numbers or UUIDs as `nvidia-smi -L` lists them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..values.errors import UserInputError
from .nvml import Card, Nvml, open_nvml


def select_gpus(text: str, *, library: Any = None) -> tuple[str, ...]:
    """The UUIDs of the GPUs that `--gpus` names, in the order given, all of one model.

    Numbers are NVML's, not those of CUDA, which CUDA_VISIBLE_DEVICES changes. A UUID may be cut short, as
    CUDA lets it be, while it fits one GPU only. `library` stands in for pynvml in tests.

    Raises: UserInputError for a GPU that is not there or named twice, and for GPUs of different models.
    """
    opened = open_nvml(library)
    listed = {} if opened.nvml is None else opened.nvml.numbered_cards()
    if opened.nvml is None or not listed:
        raise UserInputError(
            f"--gpus: expected GPUs that the driver lists, got none ({opened.reason or 'it lists none'}); "
            "leave --gpus out, or see what `phase8-tune doctor` says"
        )
    if text.strip() == "all":
        chosen = {str(number): card for number, card in listed.items()}
    else:
        chosen = {}
        for name in (part.strip() for part in text.split(",")):
            card = find_gpu(name, opened.nvml)
            twin = next((n for n, c in chosen.items() if c.uuid == card.uuid), None)
            if twin is not None:
                raise UserInputError(f"--gpus: expected every GPU once, got {twin} and {name}, which are one")
            chosen[name] = card
    _refuse_different_models(chosen)
    return tuple(card.uuid for card in chosen.values())


def find_gpu(name: str, nvml: Nvml) -> Card:
    """The GPU of that number, or whose UUID begins so.

    Raises: UserInputError where there is none, or more than one.
    """
    listed = nvml.numbered_cards()
    if name.isascii() and name.isdigit() and int(name) in listed:
        return listed[int(name)]
    if name.startswith("GPU-"):
        found = [card for card in listed.values() if card.uuid.startswith(name)]
        if len(found) > 1:
            uuids = ", ".join(card.uuid for card in found)
            raise UserInputError(
                f"--gpus: expected a UUID that fits one GPU, got {name!r}, which fits {uuids}"
            )
        if found:
            return found[0]
    # A part of a GPU (MIG) is not among the cards, and found by its whole UUID only.
    part = nvml.find(name) if name.startswith("MIG-") else None
    if part is None:
        here = ", ".join(f"{number} ({card.uuid})" for number, card in listed.items()) or "this computer"
        raise UserInputError(f"--gpus: expected a GPU of {here}, got {name!r}")
    return part


def _refuse_different_models(chosen: Mapping[str, Card]) -> None:
    models: dict[str, list[str]] = {}
    for name, card in chosen.items():
        models.setdefault(card.name() or "GPU without a name", []).append(name)
    if len(models) > 1:
        groups = " and ".join(f"{model} ({', '.join(names)})" for model, names in models.items())
        choices = " or ".join(f"--gpus {','.join(names)}" for names in models.values())
        raise UserInputError(
            f"--gpus: expected GPUs of one model, as a study is of one, got {groups}; type {choices}"
        )
