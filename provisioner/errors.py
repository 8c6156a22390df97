"""What can go wrong, as the exit codes that docs/exit-codes.md documents.

Every error is one clear line (what, where) and, where there is something to do, a hint with
the command to paste.
"""


class ProvisionError(Exception):
    """An operation failed and was undone: nothing of it is left."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class BadInput(ProvisionError):
    """What was asked for cannot be done as asked; nothing was changed."""

    exit_code = 2


class NeedsHand(ProvisionError):
    """A person must look before the subject can go on."""

    exit_code = 3


class Busy(ProvisionError):
    """Another operation holds the subject; the message names its holder and start time."""

    exit_code = 4


class Unavailable(ProvisionError):
    """Something that `provision` needs does not answer: engine, state database, image."""

    exit_code = 5


class Irrevocable(ProvisionError):
    """A step cannot be taken back any more, because that would lose what was accepted since: only forward."""

    exit_code = 3


class Interrupted(ProvisionError):
    """Ctrl-C or SIGTERM asked to stop: between two steps, or while a step waited for a host."""

    exit_code = 130
