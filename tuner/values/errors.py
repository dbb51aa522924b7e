"""The exceptions a user may see: one line each, with the exit code of the command that ends with it."""

from __future__ import annotations


class Phase8TuneError(Exception):
    """Root of all errors raised on purpose; its text is one line that says what to do."""

    exit_code = 1
    is_interrupt = False


class PromiseBrokenError(Phase8TuneError):
    """What a settings file promises was checked and did not hold."""

    exit_code = 1


class UserInputError(Phase8TuneError):
    """What the user gave is wrong: the text says what was expected, what came, where, and what to do."""

    exit_code = 2


class NothingFitsError(Phase8TuneError):
    """The study ended without one configuration that fits the budget."""

    exit_code = 3


class DeviceError(Phase8TuneError):
    """The GPU or its driver failed in a way that ends the study."""

    exit_code = 4


class InterruptedStudyError(Phase8TuneError):
    """The user interrupted; everything measured is kept. Ends with 128 + the signal that asked for it."""

    exit_code = 130
    is_interrupt = True


class OutputLostError(Phase8TuneError):
    """What a command prints could not be written."""

    exit_code = 2
