"""`phase8-tune`: the commands put together. What one of them does stands in `commands/`, one file each."""

from __future__ import annotations

from collections.abc import Sequence

from .commands.compare import compare
from .commands.dashboard import dashboard
from .commands.doctor import doctor
from .commands.entry import enter
from .commands.frontier import frontier
from .commands.gpus import gpus
from .commands.predict import predict
from .commands.recommend import recommend
from .commands.report import report
from .commands.tune import tune
from .commands.verify import verify
from .commands.workload import workload

cli = tune
for command in (frontier, recommend, report, compare, dashboard, gpus, predict, verify, doctor, workload):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, by default that of the process."""
    enter("phase8-tune", cli, arguments)


if __name__ == "__main__":
    main()
