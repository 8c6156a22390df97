"""The table of exit codes is complete: no command, and no case of one, is forgotten."""

from tests.support.exit_codes import CASES, NONE, ROWS, commands


def test_every_command_has_its_rows() -> None:
    """Each of the four cases of each command has a row in tests/support/exit_codes.py, or a reason why it has none."""
    for command in sorted(commands()):
        with_rows = {row.case for row in ROWS if row.command == command}
        without = set(NONE.get(command, {}))
        assert with_rows | without == set(CASES), f"{command}: cases are missing in tests/support/exit_codes.py"
        assert not with_rows & without, f"{command}: a case has rows, and a reason to have none"


def test_no_row_is_of_a_command_that_is_gone() -> None:
    assert {row.command for row in ROWS} | set(NONE) <= commands()
    assert {row.case for row in ROWS} <= set(CASES)
