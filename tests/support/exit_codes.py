"""What each command ends with: all that it was asked for done, nothing to do, a part refused, or all of it refused."""

from dataclasses import dataclass, field

import typer.main
from typer.core import TyperGroup

from provisioner.cli.app import app

CASES = ("refused", "partly", "nothing", "done")
ONE, LOOKS = "it has one subject", "it changes nothing"


@dataclass(frozen=True)
class Row:
    """A command line, in the order in which one town sees them, and its exit code."""

    command: str
    case: str
    arguments: str  # without the command's own words; {folder} is the town's
    code: int
    environment: dict[str, str] = field(default_factory=dict)


def commands() -> set[str]:
    """Return every command of the program, such as "agreement sign"."""
    return set(_below(typer.main.get_command(app), ()))


def _below(command: object, words: tuple[str, ...]) -> list[str]:
    if not isinstance(command, TyperGroup):
        return [" ".join(words)]
    return [name for word, below in command.commands.items() for name in _below(below, (*words, word))]


KILLED = {"PROVISION_FAILPOINT": "create.database:after:kill"}
NO_MAIL = {"PROVISION_INVENTORY": "{folder}/no-mail.yaml"}  # names a mail server where none answers
OVER = {"PROVISION_NOW": "2029-06-01T12:00"}  # the first term of every agreement is over
PEOPLE = "--administrator 'Présidence <presidence@example.org>' --administrator 'Secrétariat <secretariat@example.org>'"

ROWS = (
    Row("init", "done", "", 0),
    Row("init", "nothing", "", 0),
    Row("init", "refused", "--domain autre.example.test", 2),
    Row("release list", "done", "", 0),
    Row("release build", "refused", "9.9", 2),
    Row("release build", "partly", "6.8 9.9", 2),
    Row("release build", "nothing", "6.8", 0),
    # `lune` is begun, and stays unfinished until the end.
    Row("create", "done", "--from {folder}/two.yaml", 0),
    Row("create", "nothing", "--from {folder}/two.yaml", 0),
    Row("create", "refused", "Kayane --name Kayane --yes " + PEOPLE, 2),
    Row("create", "refused", "--from {folder}/moon.yaml", -9, KILLED),
    Row("create", "refused", "--from {folder}/moon.yaml", 4),
    Row("create", "partly", "--from {folder}/three.yaml", 4),
    Row("contact invite", "refused", "kayane nobody@example.org", 2),
    Row("contact invite", "refused", "lune presidence.lune@example.org", 2),
    Row("contact invite", "done", "kayane presidence.kayane@example.org", 0),
    Row("mail list", "done", "", 0),
    Row("mail test", "refused", "nobody", 2),
    Row("mail test", "refused", "nobody@example.org", 5, NO_MAIL),
    Row("mail test", "done", "nobody@example.org", 0),
    Row("mail retry", "nothing", "", 0),
    Row("contact invite", "done", "kayane presidence.kayane@example.org", 0, NO_MAIL),  # its mail waits
    Row("mail retry", "refused", "", 3, NO_MAIL),
    Row("mail retry", "done", "", 0),
    Row("agreement preview", "refused", "--start 2026-02-30", 2),
    Row("agreement preview", "done", "--start 2026-02-28", 0),
    Row("agreement document", "refused", "nobody", 2),
    Row("agreement document", "done", "kayane", 0),
    Row("agreement sign", "refused", "nobody --on 2026-01-02", 2),
    Row("agreement sign", "refused", "nobody --on 2026-01-02 --dry-run", 2),
    Row("agreement sign", "done", "kayane --on 2026-01-02", 0),
    Row("agreement sign", "refused", "kayane --on 2026-01-02", 2),
    Row("agreement end", "refused", "kayane --cancel", 2),
    Row("agreement end", "done", "kayane --on 2026-01-03 --notice --by Association", 0),
    Row("agreement end", "done", "kayane --cancel", 0),
    Row("agreement end", "done", "kayane --on 2026-01-03 --notice --by Association", 0),
    Row("agreement close", "refused", "kayane --yes", 2),
    Row("agreement close", "refused", "kayane --dry-run", 2),
    Row("agreement close", "done", "kayane --yes", 0, OVER),
    Row("agreement end", "refused", "kayane --cancel", 2, OVER),
    Row("agreement sign", "done", "kayane --on 2029-05-02", 0, OVER),  # a new one opens it again
    Row("agreement list", "refused", "--statement 2026 --ics {folder}/due.ics", 2),
    Row("agreement list", "done", "", 0),
    Row("backup", "refused", "nobody", 2),
    Row("backup", "refused", "lune", 2),
    Row("backup", "refused", "lune --dry-run", 2),
    Row("backup", "partly", "kayane lune", 2),
    Row("backup", "partly", "kayane lune --dry-run", 2),
    Row("backup", "done", "kayane", 0),
    Row("drill", "refused", "nobody", 2),
    Row("drill", "refused", "nobody --dry-run", 2),
    Row("drill", "refused", "lune", 1),  # it has no repository yet
    Row("drill", "refused", "lune --dry-run", 1),
    Row("drill", "partly", "kayane lune", 1),
    Row("drill", "nothing", "--due", 0),
    Row("drill", "done", "kayane", 0),
    Row("upgrade", "refused", "kayane --to 9", 2),
    Row("upgrade", "refused", "kayane --to 9 --dry-run", 2),
    Row("upgrade", "refused", "kayane --to 9 --yes", 2),
    Row("upgrade", "refused", "kayane --to 7.1", 5),  # not built
    Row("upgrade", "partly", "regart lune --yes", 2),
    Row("upgrade", "partly", "regart lune --dry-run", 2),
    Row("upgrade", "nothing", "regart", 0),
    Row("upgrade", "done", "kayane --yes", 0),  # a newer plugin
    Row("restore", "refused", "nobody --yes", 2),
    Row("restore", "refused", "regart --dry-run", 1),  # it has no repository yet
    Row("restore", "done", "kayane --yes", 0),
    Row("undo", "refused", "regart --yes", 2),
    Row("undo", "refused", "regart --dry-run", 2),
    Row("undo", "done", "kayane --yes", 0),
    Row("export", "refused", "lune", 2),
    Row("export", "done", "kayane --to {folder}/kayane.zip", 0),
    Row("export", "refused", "kayane --to {folder}/kayane.zip", 2),
    Row("status", "refused", "nobody", 2),
    Row("status", "done", "", 0),
    Row("log", "refused", "nobody", 2),
    Row("log", "done", "kayane", 0),
    Row("doctor", "partly", "--fix", 3),
    Row("resume", "refused", "kayane", 2),
    Row("resume", "done", "lune", 0),
    Row("doctor", "done", "", 0),
    Row("nightly", "done", "--dry-run", 0),
    Row("serve", "done", "--jobs", 0),
    Row("mail confirm", "nothing", "", 0),
    Row("mail confirm", "refused", "", 1, OVER),  # it asks
    Row("mail confirm", "done", "--yes", 0, OVER),
)

# Cases that a command does not have, or that another test shows, and why.
NONE: dict[str, dict[str, str]] = {
    "init": {"partly": "a host that fails undoes it"},
    "create": {},
    "upgrade": {},
    "backup": {"nothing": "a snapshot can always be taken"},
    "restore": {"partly": ONE, "nothing": "a snapshot can always be restored"},
    "drill": {},
    "export": {"partly": ONE, "nothing": "it always writes a file"},
    "nightly": {
        "refused": "tests/e2e/test_nightly.py: one that runs refuses another",
        "partly": "tests/e2e/test_nightly.py: what fails stops nothing else",
        "nothing": "it always compares hosts and records",
    },
    "serve": {
        "refused": "tests/e2e/test_nightly.py: a second one waits",
        "partly": "it tells what fails, and stays",
        "nothing": "it stays",
    },
    "status": {"partly": ONE, "nothing": LOOKS},
    "log": {"partly": ONE, "nothing": LOOKS},
    "doctor": {"refused": "it takes no subject", "nothing": LOOKS},
    "resume": {"partly": ONE, "nothing": "where nothing is unfinished, it is refused"},
    "undo": {"partly": ONE, "nothing": "where nothing can be undone, it is refused"},
    "release list": {"refused": "it takes no subject", "partly": "it takes no subject", "nothing": LOOKS},
    "release build": {"done": "`init` builds the default release"},
    "agreement preview": {"partly": ONE, "nothing": LOOKS},
    "agreement sign": {"partly": ONE, "nothing": "what is signed already is refused: the day might be another"},
    "agreement end": {"partly": ONE, "nothing": "what has ended, or goes on, already is refused"},
    "agreement close": {"partly": ONE, "nothing": "what is closed already is refused"},
    "agreement list": {"partly": "it takes no subject", "nothing": LOOKS},
    "agreement document": {"partly": ONE, "nothing": "it always writes a file"},
    "contact invite": {"partly": ONE, "nothing": "it always makes a new link"},
    "mail list": {"refused": "it takes no subject", "partly": "it takes no subject", "nothing": LOOKS},
    "mail retry": {"partly": "tests/faults/test_mail.py: one mail that is left is enough for 3"},
    "mail confirm": {"partly": "it sends the whole list"},
    "mail test": {"partly": ONE, "nothing": "it always sends one"},
}
