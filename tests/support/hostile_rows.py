"""The matrix of the hostile site: every operation and every command that looks at a site, in the order of one life.

tests/unit/test_hostile_rows.py compares it with the registry of recipes and with the command line itself: what is new
there needs a row here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from provisioner.operations import (
    agreement,
    backup,
    copy_site,
    create,
    drill,
    expire,
    export,
    init,
    invite,
    restore,
    upgrade,
)
from provisioner.operations import undo as going_back

SECONDS = 240  # for any row, on a busy machine: what a site does makes none of them longer
NEWER = "newer"  # what a row needs: a newer build of the release
LATER = "2027-03-01T12:00"  # when kept generations are due to go

DEEP = ("deep_directories",)
UNREADABLE = ("unreadable_files",)
RACERS = ("a_racer_among_plugins", "a_racer_among_uploads")


@dataclass(frozen=True)
class Row:
    """A command against the hostile site; ``{slug}``, ``{copy}`` and ``{file}`` stand for what the test names so."""

    command: str
    kinds: Sequence[str] = ()  # of the operations that it runs
    page: str = "plain"  # what the site's pages are meanwhile: hostile_site.PAGES
    answer: str = "plain"  # what programs answer that load WordPress: hostile_site.ANSWERS
    also: Sequence[str] = ()  # tricks that hold up or stop whoever comes near, planted for this row
    needs: str = ""
    now: str = ""  # the day on which it happens
    failpoint: str = ""  # where the command is killed first; the row is what follows
    whole: bool = False  # in the whole matrix alone (`make acceptance`): another row of `make test` runs its command

    @property
    def name(self) -> str:
        """Return how tests call the row."""
        ways = [way for way in (self.page, self.answer, *self.also) if way != "plain"]
        return " ".join((self.command, *ways))


ROWS = (
    Row("init", [init.KIND]),
    Row("agreement sign {slug} --on 2026-01-02", [agreement.SIGN]),
    Row("contact invite {slug} presidence.{slug}@example.org", [invite.KIND]),
    Row("create --from {file}", [create.KIND]),
    Row("status", page="endless"),
    Row("status --check"),
    Row("status {slug}", answer="garbage"),
    Row("status {slug}", answer="forged", whole=True),
    Row("status {slug}", answer="long"),
    Row("status {slug}", answer="killed", whole=True),
    Row("status {slug}", also=["a_fifo_for_a_plugin"], whole=True),
    Row("status {slug} --snapshots", whole=True),
    Row("log {slug} --count 100"),
    Row("log {slug} --site --count 100"),
    Row("mail retry --due"),
    Row("doctor", page="endless"),
    Row("doctor", page="slow", whole=True),
    Row("doctor", page="bomb", whole=True),
    Row("doctor", page="short", whole=True),
    Row("doctor", page="loop", whole=True),
    Row("doctor", page="metadata"),
    Row("backup {slug}", [backup.KIND], also=RACERS),
    Row("backup {slug}", [backup.KIND], also=["a_view_for_attachments"]),
    Row("backup {slug}", [backup.KIND], also=["a_lock_that_is_held"], whole=True),
    Row("backup {slug}", [backup.KIND], also=["an_invalid_view"], whole=True),
    Row("backup {slug}", [backup.KIND], also=UNREADABLE, whole=True),
    Row("backup {slug}", [backup.KIND], also=DEEP, whole=True),
    Row("backup {slug}", [backup.KIND]),
    Row("backup {slug} --check"),
    Row("drill {slug}", [drill.KIND]),
    Row("drill --due", [drill.KIND], whole=True),
    Row("export {slug} --dry-run", also=UNREADABLE, whole=True),
    Row("export {slug}", [export.KIND], also=DEEP, whole=True),
    Row("export {slug} --to {folder}", [export.KIND], page="loop"),
    Row("export {slug} --to {folder}", [export.KIND], page="endless", answer="forged", whole=True),
    Row("upgrade {slug} --dry-run", whole=True),
    Row("upgrade {slug} --yes", [upgrade.KIND], page="slow", needs=NEWER, whole=True),
    Row("upgrade {slug} --yes", [upgrade.KIND], answer="forged", needs=NEWER, whole=True),
    Row("upgrade {slug} --yes", [upgrade.KIND], needs=NEWER),
    Row("upgrade {slug} --yes", [upgrade.KIND], also=RACERS, needs=NEWER, whole=True),
    Row("undo {slug} --dry-run", whole=True),
    Row("restore {slug} --dry-run", whole=True),
    Row("restore {slug} --after-intrusion --dry-run", also=UNREADABLE),
    Row("restore {slug} --yes", [restore.KIND]),
    Row("undo {slug} --yes", [going_back.KIND]),
    Row("restore {slug} --yes", [restore.KIND], also=DEEP, whole=True),
    Row("undo {slug} --yes", [going_back.KIND], also=DEEP, whole=True),
    Row("restore {slug} --yes", [restore.KIND], also=RACERS, whole=True),
    Row("restore {slug} --database --yes", [restore.DATABASE_KIND]),
    Row("restore {slug} --database --yes", [restore.DATABASE_KIND], also=UNREADABLE, whole=True),
    Row("restore {slug} --files themes --yes", [restore.FILES_KIND], also=RACERS, whole=True),
    Row("restore {slug} --files themes --yes", [restore.FILES_KIND]),
    Row("restore {slug} --after-intrusion --yes", [restore.INTRUSION_KIND]),
    Row("restore {slug} --as {copy} --yes", [copy_site.KIND]),
    Row("resume {slug}", [backup.KIND], failpoint="backup {slug} at backup.snapshot:after:kill"),
    Row("agreement end {slug} --on 2026-01-25 --termination --reason x --yes", [agreement.END], now="2026-01-20T12:00"),
    Row("agreement end {slug} --cancel", [agreement.KEEP], now="2026-01-21T12:00"),
    Row("agreement end {slug} --on 2026-01-26 --termination --reason x --yes", [agreement.END], now="2026-01-22T12:00"),
    Row("agreement close {slug} --yes", [agreement.CLOSE], now="2026-02-01T12:00"),
    Row("agreement sign {slug} --on 2026-02-02 --start 2026-02-02", [agreement.SIGN_AGAIN], now="2026-02-02T12:00"),
    Row("nightly --dry-run", whole=True),
    Row("nightly", [expire.KIND, backup.KIND], now=LATER),
    Row("nightly", [backup.KIND], page="endless", now="2027-03-02T12:00", whole=True),
    Row("backup {slug} --prune", now="2027-03-03T12:00"),
    Row("doctor --fix"),
)

# Commands that look at no site, and why.
ELSEWHERE = {
    "serve": "does by the hour what `nightly` does",
    "release list": "the records alone",
    "release build": "images, of nothing that a site owns",
    "agreement preview": "pure",
    "agreement list": "the records alone",
    "agreement document": "the records alone",
    "mail list": "the records alone",
    "mail test": "no site",
    "mail confirm": "the records alone",
}
# Options that change nothing about what is read or done on a site, and why; a star stands for all of a command.
SHARED = {
    "--json": "how it is printed",
    "--yes": "who is asked",
    "--inventory": "which installation",
    "--dry-run": "where it has no row, it reads the records alone",
}
INDIFFERENT = {
    "init": {"*": "typed by an operator"},
    "create": {"*": "typed by an operator: tests/e2e/hostile.yaml"},
    "backup": {"--all": "one site after the other", "--escrow": "no site"},
    "restore": {"--snapshot": "which", "--at": "which", "--control-plane": "no site", "--escrow": "no site"},
    "upgrade": {
        "--all": "one site after the other",
        "--canary": "in which order",
        "--parallel": "how many at a time",
        "--only": "a part of it",
        "--to": "which release",
    },
    "agreement sign": {
        "--copy": "a file of the operator's",
        "--start": "the records alone",
        "--retroactive": "the records alone",
    },
    "agreement end": {
        "--notice": "the records alone",
        "--by": "words",
        "--from": "the records alone",
        "--accept-late": "the records alone",
        "--next-term": "the records alone",
    },
}
