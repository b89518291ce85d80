"""The errors that nnlo raises on purpose.

Each message is one line that names the flag or the file and the fix; the drivers print it as it stands.
"""


class NnloError(Exception):
    """Root of all errors of this library; `exit_code` is what a driver leaves with.

    `agreed` is set once every rank is known to raise the same error, so that all can leave in order.
    """

    exit_code = 1
    agreed = False


class OptionsError(NnloError):
    """An option, a name or a combination of them that cannot work. Drivers leave with 2."""

    exit_code = 2


class DataError(NnloError):
    """A file, a list or an array that cannot be used. Drivers leave with 2."""

    exit_code = 2


class ProtocolError(NnloError):
    """A message that this side does not expect: two versions of the library, or a defect."""


class TrainingError(NnloError):
    """Training that cannot go on, for example ten non-finite gradients in a row."""


class Preempted(NnloError):
    """A signal told the job to leave, and it did so after a checkpoint. Drivers leave with 85: run me again."""

    exit_code = 85


class Finished(NnloError):
    """There is nothing left to do: the training to go on with has come to its end. Drivers leave with 0."""

    exit_code = 0


class LauncherLost(NnloError):
    """What started this rank is gone, and with it the way to end the others together."""

    def __init__(self) -> None:
        super().__init__("the launcher of this job is gone, so the job ends")


class TrialFailed(NnloError):
    """What one rank raised ended this training on all its ranks, which go on with another one."""


class PeerLost(NnloError):
    """A rank that can no longer be reached."""

    def __init__(self, peer: int, reason: str = "it no longer answers") -> None:
        super().__init__(f"rank {peer} is lost: {reason}")
        self.peer, self.reason = peer, reason


class Stranded(NnloError):
    """A rank has ended, in a job of which none outlives another."""

    def __init__(self, peer: int) -> None:
        super().__init__(f"rank {peer} is lost: its process has ended, and without it this job cannot go on")


def describe(error: BaseException) -> str:
    """Type and first line of an exception: "ValueError: no such layer"."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__
