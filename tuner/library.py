"""What can be called from Python: a search or a plan, a run read again, its answers, a prediction, a check of
a settings file.

Nothing here prints. Errors are those of the commands, `Phase8TuneError` and below, and many of their texts
name what is wrong by the command's option: `--min-seq` is `min_seq` here. The names are imported from
`phase8_tune`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Literal, get_args

from .commands.arguments import check_choice, check_positive, names_of, seconds_of, size_of
from .commands.entry import children_import_alike
from .goals.filters import Filters
from .goals.goals import Goal, answer_goal
from .goals.loss import DAY_S, DEFAULT_LAW, LAWS, Horizon, LawName
from .goals.wording import caveats, why
from .report.answers import render_answer
from .report.display import Display
from .report.run import Environment, Run, read_run
from .report.shown import RunAnswer, ShownPrediction, ShownVerification
from .study.definition import Sampler
from .study.model_names import known_or_same
from .training.recommended import settings_of
from .training.settings import load_settings as read_settings
from .training.verification import STEADY_S, STEPS
from .training.verification import verify as verify_one
from .values.axes import AxisValue
from .values.candidate import DEFAULT_WORKLOAD, Mode
from .values.errors import InterruptedStudyError, NothingFitsError, Phase8TuneError, UserInputError
from .values.nearest import one_of
from .workloads.settings import TrainingSettings
from .workloads.spec import spec_of

__all__ = [
    "Environment",
    "Phase8TuneError",
    "Run",
    "RunAnswer",
    "load_run",
    "load_settings",
    "predict",
    "recommend",
    "tune",
    "verify",
]


def tune(
    vram: str | int,
    *,
    study: str | os.PathLike[str] | None = None,
    models: str | Sequence[str] = (),
    workloads: str | Sequence[str] = (),
    vocab_size: int | None = None,
    device: Literal["auto", "cuda", "cpu"] = "auto",
    gpu: str | None = None,
    gpu_file: str | os.PathLike[str] | None = None,
    gpus: str | None = None,
    cluster: str | None = None,
    gpu_model: str | None = None,
    storage: str | None = None,
    take_over: bool = False,
    run: str | None = None,
    runs_dir: str | os.PathLike[str] = "runs",
    trials: int | None = None,
    time: str | float | None = None,
    timeout: str | float | None = None,
    reserve: str | int = "auto",
    seed: int | None = None,
    sampler: Sampler | None = None,
    exhaustive: bool = False,
) -> Run:
    """Search under a budget of memory by measuring, or plan for a card, as `phase8-tune` does; the run.

        run = tune("8GB", gpu="rtx-3060-ti", models=["small"])  # or without gpu: what is here is measured
        recommend(run).settings

    The arguments are the command's options (docs/commands.md), and None is what it does without one. Sizes
    and lengths of time are texts such as "8GB" and "30m", or bytes and seconds. The same call goes on with a
    run that was interrupted, by Ctrl-C too.
    Raises: UserInputError, NothingFitsError, DeviceError, all after the run's files are written;
    KeyboardInterrupt, which says where what was measured is kept.
    """
    from .commands.measured_run import execute
    from .commands.request import RunRequest

    check_positive(trials=trials, vocab_size=vocab_size)
    check_choice("device", device, ("auto", "cuda", "cpu"))
    if sampler is not None:
        check_choice("sampler", sampler, get_args(Sampler))
    request = RunRequest(
        vram_bytes=size_of(vram, "vram"),
        command=f"tune({vram!r}, …)",
        study=None if study is None else os.fspath(study),
        device=device,
        gpu=gpu,
        gpu_file=None if gpu_file is None else Path(gpu_file),
        gpus=gpus,
        cluster=cluster,
        gpu_model=gpu_model,
        storage=storage,
        is_taken_over=take_over,
        models=names_of(models),
        workloads=names_of(workloads),
        vocab_size=vocab_size,
        run_name=run,
        runs_dir=Path(runs_dir),
        trials=trials,
        time_limit_s=None if time is None else seconds_of(time, "time"),
        timeout_s=None if timeout is None else seconds_of(timeout, "timeout"),
        reserve_bytes=None if reserve == "auto" else size_of(reserve, "reserve", least_bytes=0),
        seed=seed,
        sampler=sampler,
        exhaustive=exhaustive or None,
    )
    try:
        with children_import_alike():
            return load_run(execute(request, Display()).root)
    except InterruptedStudyError as error:
        raise KeyboardInterrupt(str(error)) from error


def load_run(path: str | os.PathLike[str]) -> Run:
    """Read a run's folder, measured or planned, of this version or an earlier one; needs no GPU.

        run = load_run("runs/default-8GB-rtx-3080-laptop")
        fastest = max(run.points, key=lambda point: point.tokens_per_s)

    Raises: UserInputError where the folder holds no run, or one of a later version.
    """
    return read_run(Path(path))


def recommend(
    run: Run | str | os.PathLike[str],
    goal: str = "balanced",
    *,
    models: str | Sequence[str] = (),
    min_seq: int | None = None,
    min_params: int | None = None,
    max_power_w: float | None = None,
    vram: str | int | None = None,
    tokens_per_update: int | None = None,
    train_time_s: float = DAY_S,
    data_tokens: int | None = None,
    law: LawName = DEFAULT_LAW,
) -> RunAnswer:
    """What of a run answers a goal (docs/goals.md), of the configurations that the rest lets pass.

        answer = recommend(run, "context", min_seq=1024, vram="6GB")
        answer.settings.batch_size

    vram: a smaller budget than the run's, a size such as "6GB" or bytes. min_params: position table not
    counted. Writes no file.
    Raises: UserInputError for a goal, law, model, budget or power that cannot be asked of this run;
    NothingFitsError, which names the first condition that nothing meets.
    """
    check_positive(train_time_s=train_time_s, data_tokens=data_tokens)
    check_choice("goal", goal, Goal)
    check_choice("law", law, LAWS)
    read = run if isinstance(run, Run) else load_run(run)
    if not read.points:
        raise NothingFitsError(f"{read.path}: nothing that was measured in this run fits its budget")
    filters = Filters(
        models=tuple(map(known_or_same, names_of(models))),
        min_seq=min_seq,
        min_parameters=min_params,
        max_power_w=max_power_w,
        budget_bytes=None if vram is None else size_of(vram, "vram"),
        tokens_per_update=tokens_per_update,
    )
    horizon = Horizon(train_time_s=train_time_s, law=LAWS[law], data_tokens=data_tokens)
    answer = answer_goal(filters.select(read.points), Goal(goal), horizon)
    return RunAnswer(
        goal=goal,
        point=answer.point,
        next_best=answer.next_best,
        why=(*why(answer, filters, horizon), *caveats(answer, filters, horizon)),
        settings=settings_of(answer.point),
        text=render_answer(answer, filters, horizon).rstrip("\n"),
    )


def predict(
    *,
    model: str,
    seq: int | None = None,
    batch: int = 1,
    gpu: str | None = None,
    gpu_file: str | os.PathLike[str] | None = None,
    vram: str | int | None = None,
    reserve: str | int = 0,
    workload: str = DEFAULT_WORKLOAD,
    mode: Mode = "train",
    axes: Mapping[str, AxisValue] | None = None,
) -> ShownPrediction:
    """Memory and throughput of one configuration on a card; nothing is run on a GPU.

        found = predict(model="small", seq=512, batch=4, gpu="rtx-3080-laptop", vram="8GB")
        found.fits, found.peak_bytes, found.tokens_per_s.expected

    It traces in another process. axes: what else the workload has, such as {"kernel_version": "reference"};
    by default of Phase 8 `fast`, bf16, no checkpointing. gpu: by default the card that is here, else the RTX
    3080 Laptop. vram: by default all of the card's memory. Sizes are texts such as "8GB", or bytes.
    Raises: UserInputError, NothingFitsError for a budget that the context alone exceeds, DeviceError where
    the process that traces is lost.
    """
    from .commands.asked_candidate import asked_candidate, check_card
    from .predict.prediction import Predictor
    from .predict.rate.calibration import present_profile
    from .predict.rate.profiles import chosen_profile
    from .predict.store import PredictionStore

    check_positive(batch=batch)
    asked: dict[str, AxisValue | None] = {"n_seq": seq, **(axes or {})}
    known = spec_of(workload).by_name
    for name in axes or {}:
        if name not in known:
            raise UserInputError(f"axes: {one_of(known, name)}")
    candidate = asked_candidate(
        workload=workload, model=model, batch_size=batch, mode=mode, precision=None, others=(), **asked
    )
    profile = chosen_profile(gpu, None if gpu_file is None else Path(gpu_file)) or present_profile()
    check_card(candidate, profile)
    budget_bytes = profile.capacity_bytes if vram is None else size_of(vram, "vram")
    reserve_bytes = size_of(reserve, "reserve", least_bytes=0)
    with PredictionStore(processes=1) as store:
        predictor = Predictor(profile=profile, store=store, reserve_bytes=reserve_bytes)
        found = predictor.predict(candidate, budget_bytes)
    return ShownPrediction(**{item.name: getattr(found, item.name) for item in fields(found)})


def load_settings(path: str | os.PathLike[str]) -> TrainingSettings:
    """Read and check a settings file, one that was recommended or one by hand.

        settings = load_settings("runs/mine/recommended/small.yaml")
        settings.batch_size, settings.to_config()

    Raises: UserInputError.
    """
    return read_settings(Path(path))


def verify(
    path: str | os.PathLike[str],
    *,
    data: str | None = None,
    steps: int = STEPS,
    seconds: float = STEADY_S,
    device: Literal["auto", "cuda", "cpu"] = "auto",
) -> ShownVerification:
    """Train as a recommended file says, in processes of their own, and say whether its promise holds.

        found = verify("runs/mine/recommended/small.yaml")
        found.held, found.problems

    data: a text, None for the modules of Python's standard library. The file is left as it is.
    Raises: UserInputError for a file without a promise; what the training raised. A promise that does not
    hold is no error: `held` says it.
    """
    check_positive(steps=steps, seconds=seconds)
    settings = load_settings(path)
    with children_import_alike():
        found = verify_one(Path(path), settings, data=data, steps=steps, steady_s=seconds, device=device)
    return ShownVerification(**{item.name: getattr(found, item.name) for item in fields(found)})
