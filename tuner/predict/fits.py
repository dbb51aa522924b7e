"""What "fits" means of a prediction: one rule, with a margin that its use needs.

Of a budget of 8,000 MB, 700 of them outside of torch's allocator: what is predicted to take 7,700 is
recommended without being measured (with 3 % more it takes 7,931). 7,850 are not, but a search launches and
measures them, as torch's 7,150 are within 1 % less than its room of 7,300. 7,950 it does not launch: they may
fit, and may run out of memory, for a batch that is 1 % larger.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class FitRule:
    """A candidate fits where its replay does under a cap that is moved by a margin, a share.

    spare: of the process's peak, what the budget has to hold beside it. more_room: of torch's part of the
    budget, what it counts as larger; below 0, as smaller. any_placement: it shall fit where the driver puts
    segments as in a new process, and where it puts each above the last.
    """

    spare: float = 0.0
    more_room: float = 0.0
    any_placement: bool = False

    @property
    def margin(self) -> float:
        return self.spare or abs(self.more_room)

    @property
    def condition(self) -> str:
        """For people, after "fits" or "does not fit"."""
        if self.spare:
            return f"with {self.spare:.0%} to spare"
        return f"with {abs(self.more_room):.0%} {'less' if self.more_room < 0 else 'more'} room"

    def budget_bytes(self, budget_bytes: int) -> int:
        """What a process may take at its peak, of a budget."""
        return int(budget_bytes / (1 + self.spare))

    def cap_bytes(self, cap_bytes: int) -> int:
        """What torch may reserve, where its part of that is `cap_bytes`."""
        return int(cap_bytes * (1 + self.more_room))

    def needed_bytes(self, peak_bytes: int) -> int:
        """What a budget has to hold for a process with this peak."""
        return int(peak_bytes * (1 + self.spare))


EXACT = FitRule()
"""What the process itself has room for: under a lower cap the allocator gives back cache that it keeps here,
so that this says what it takes (seven of 40 lives took up to 3.3 % more than under the cap of RECOMMEND;
studies/results, 2026-11-28-h200-lives)."""
RECOMMEND = FitRule(spare=0.03)
"""What is said to fit, and recommended by a plan, must not run out of memory: where the allocator's segments
lie on other drivers costs reserved bytes that no trace shows. Of the 1,716 candidates under a cap that were
decided on an H200 and H100s this recommends 1,087, and all of these ran; also all of the 1,093 that it
recommends with every segment replayed above the last."""
LAUNCH = FitRule(more_room=-0.01, any_placement=True)
"""What a search launches must not run out of memory: in new processes reserved bytes are within 0.6 % of what
is predicted (studies/results, 2026-11-26-h100-prediction-new-processes). It costs next to nothing where the
batch is a number: the largest that fits with 1 % less room is 1 % smaller. A worker that has measured others
before has its segments elsewhere: after `small 784×256` with checkpointing `xl 26×1024` ran out of memory in
each of three processes; in a new one it takes 7,232 MB of 7,376, as predicted, with ascending addresses 7,356
(studies/results, 2026-11-29-h200-default-study)."""
