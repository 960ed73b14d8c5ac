"""Errors, named for what whoever meets them must do."""


class FootfallError(Exception):
    """Something the person running Footfall can mend; its text says what and how, without a traceback."""

    exit_code = 1


class BadSettingError(FootfallError):
    """A setting is unknown or out of range: correct it and start again."""

    exit_code = 2


class BadUsageError(FootfallError):
    """The command can't be carried out as it was given: call it otherwise."""

    exit_code = 2


class AlreadyInUseError(FootfallError):
    """A port or a file is held by another process: stop that one, or choose another."""


class QueueFullError(FootfallError):
    """The queue takes nothing more for now (its limit, or the disk): try again later, nothing is broken."""


class QueueBrokenError(FootfallError):
    """A commit failed at its last step: whether it took place will be known only after a new start."""


class AssignmentLostError(FootfallError):
    """Another consumer goes on: forget what is not written yet, and wait for the next assignment."""


class DamagedFileError(FootfallError):
    """A file holds something Footfall did not write: look at it before anything goes on."""


class UnreadableFileError(DamagedFileError):
    """The disk does not give back what Footfall wrote: once the file is set aside, start again without it."""

    exit_code = 4


class DamagedQueueError(UnreadableFileError):
    """The queue is no longer what was written: all who have it open must close it, so that it can be salvaged."""

    exit_code = 3
