"""A study as far as it runs on a card: what the card cannot do is left out of a plan, and said."""

from __future__ import annotations

from collections.abc import Callable

from ...kernels.versions import KERNEL_VERSIONS
from ..predict.rate.abilities import WITHOUT_TRITON, lacking
from ..predict.rate.profiles import GpuProfile
from ..study.changes import without
from ..study.definition import StudyDefinition
from ..values.errors import UserInputError

_PRECISIONS = ("bf16", "fp16", "none")


def for_card(
    definition: StudyDefinition, text: str, profile: GpuProfile, tell: Callable[[str], None]
) -> tuple[StudyDefinition, str]:
    """The study without what does not run on the card, which is told in a line, and its text.

    Raises: UserInputError where nothing of it runs there.
    """
    lacks = lacking(profile.compute_capability)
    versions = [v for v in KERNEL_VERSIONS if v != WITHOUT_TRITON] if "Triton" in lacks else []
    precisions = [precision for precision in _PRECISIONS if precision in lacks]
    if not versions and not precisions:
        return definition, text
    left = without(definition, {"kernel_version": versions, "mixed_precision": precisions})
    missing = " and no ".join((*precisions, *(["Triton kernels"] if versions else [])))
    cannot = f"{profile.title} (compute capability {profile.compute_capability}) has no {missing}"
    if left is None:
        raise UserInputError(
            f"{cannot}: expected a study with kernel_version {WITHOUT_TRITON} and mixed_precision "
            f"{' or '.join(p for p in _PRECISIONS if p not in precisions)}, got study {definition.name}, "
            "of which nothing runs there; name another with --study"
        )
    tell(f"{cannot}; what of the study {definition.name} needs them is left out")
    return left, left.to_yaml()
