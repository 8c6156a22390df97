"""How the program fails: one line on standard error, and an exit code."""


class Fault(Exception):
    """What was asked for could not be done; restic's own exit codes are passed on (10, 11, 12, ...)."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
