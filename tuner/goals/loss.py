"""The loss that a model of some size may be expected to reach after some tokens: a parametric law.

L(N, D) = E + A/N^α + B/D^β, in nats a token, with N parameters and D training tokens. Fitted by others to
transformers of 57 million parameters and more on web text: for smaller ones and for Phase 8 an extrapolation,
by which sizes are compared, and no promise of a loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ..records.frontier import Point
from ..records.recommend import recommendation_name

LawName = Literal["besiroglu", "hoffmann"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScalingLaw:
    """The parameters of one fit. title: who made it."""

    title: str
    e: float
    a: float
    b: float
    alpha: float
    beta: float

    def loss(self, parameters: float, tokens: float) -> float:
        """Expected loss in nats a token of a model of so many parameters after so many tokens."""
        return float(self.e + self.a / parameters**self.alpha + self.b / tokens**self.beta)


LAWS: Final[dict[LawName, ScalingLaw]] = {
    # Source: Besiroglu, Erdil, Barnett, You 2024, arXiv:2404.10102: the third approach of Hoffmann et al.,
    # made again. Standard errors: E 0.026, A 124.5, B 1293, α 0.015, β 0.021.
    "besiroglu": ScalingLaw(
        title="Besiroglu et al. 2024", e=1.8172, a=482.01, b=2085.43, alpha=0.3478, beta=0.3658
    ),
    # Source: Hoffmann et al. 2022, arXiv:2203.15556, appendix D.3, as printed there: rounded.
    "hoffmann": ScalingLaw(title="Hoffmann et al. 2022", e=1.69, a=406.4, b=410.7, alpha=0.34, beta=0.28),
}
DEFAULT_LAW: Final[LawName] = "besiroglu"
SMALLEST_FITTED_PARAMETERS: Final = 57_000_000
"""Below it the law was fitted to nothing. Source: Hoffmann et al. 2022, the models of table A9."""
BAND: Final = 0.01
"""Sizes whose expected losses differ by no more than this share are not told apart."""
FREE_EPOCHS: Final = 4
"""Data may be seen this often before its tokens count for less. Source: Muennighoff et al. 2023,
arXiv:2305.16264: up to four epochs are nearly as good as new data."""
DAY_S: Final = 86400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Horizon:
    """How long will be trained, on how much text, and which law says what comes of it.

    data_tokens: of the text, None where that is not known.
    """

    train_time_s: float = DAY_S
    law: ScalingLaw = LAWS[DEFAULT_LAW]
    data_tokens: int | None = None

    def loss(self, point: Point) -> float:
        """Expected loss of a point after that time at its tokens/s; the position table is no part of N."""
        return self.law.loss(point.body_parameters, self.tokens(point))

    def tokens(self, point: Point) -> float:
        """Tokens that a point trains on in that time."""
        return point.tokens_per_s * self.train_time_s


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelLoss:
    """What may be expected of one model, at its fastest point. loss: in nats a token. tokens: trained on.

    in_band: not told apart from the best. epochs: over the text, None where its size is not known.
    """

    model: str
    point: Point
    tokens: float
    loss: float
    in_band: bool
    epochs: float | None

    @property
    def is_extrapolated(self) -> bool:
        """Smaller than anything that the law was fitted to."""
        return self.point.body_parameters < SMALLEST_FITTED_PARAMETERS

    @property
    def repeats_too_often(self) -> bool:
        """The text is seen so often that the law expects too much of it."""
        return self.epochs is not None and self.epochs > FREE_EPOCHS


def by_model(points: Iterable[Point]) -> dict[str, list[Point]]:
    """Points by model, variant and vocabulary."""
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(recommendation_name(point.candidate), []).append(point)
    return found


def expected_losses(points: Sequence[Point], horizon: Horizon) -> tuple[ModelLoss, ...]:
    """What may be expected of every model, the lowest loss first."""
    fastest = {
        name: max(of_model, key=lambda p: (p.tokens_per_s, -p.peak_bytes, p.record.digest))
        for name, of_model in by_model(points).items()
    }
    best = min((horizon.loss(point) for point in fastest.values()), default=0.0)
    found = []
    for name, point in fastest.items():
        loss, tokens = horizon.loss(point), horizon.tokens(point)
        found.append(
            ModelLoss(
                model=name,
                point=point,
                tokens=tokens,
                loss=loss,
                in_band=loss <= best * (1 + BAND),
                epochs=None if horizon.data_tokens is None else tokens / horizon.data_tokens,
            )
        )
    return tuple(sorted(found, key=lambda item: (item.loss, item.point.peak_bytes, item.model)))
