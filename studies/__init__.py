"""The study definitions that come with the package: YAML files, and nothing executable but this loader."""

from __future__ import annotations

from importlib import resources


def packaged_studies() -> tuple[str, ...]:
    """Names of the packaged study definitions, sorted; `name` stands for the file `name.yaml`."""
    entries = resources.files(__name__).iterdir()
    return tuple(sorted(e.name.removesuffix(".yaml") for e in entries if e.name.endswith(".yaml")))


def read_packaged(name: str) -> str:
    """The YAML text of a packaged study definition.

    Raises: KeyError for a name that is not one of `packaged_studies()`.
    """
    if name not in packaged_studies():
        raise KeyError(name)
    return resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
