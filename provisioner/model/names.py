"""Names of everything that a site, a generation or a host owns, and the rules for slugs.

All names derive from the namespace, the slug and the generation's number, so that whoever finds
a container, a database or a directory can tell whose it is, and so that two installations with
different namespaces never meet.
"""

import re
from dataclasses import dataclass

SLUG = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
SLUG_LENGTH = 40
DATA_ROOT_LENGTH = 38  # socket paths over 107 bytes fail: root + /run/sites/ + slug + /current/http.sock
RESERVED_SLUGS = frozenset(
    [
        "admin",
        "api",
        "asso",
        "assos",
        "autoconfig",
        "autodiscover",
        "control-plane",
        "council",
        "cron",
        "current",
        "database",
        "dns",
        "edge",
        "egress",
        "forum",
        "ftp",
        "host",
        "imap",
        "localhost",
        "mail",
        "mta",
        "mx",
        "ns",
        "portail",
        "portal",
        "provision",
        "root",
        "smtp",
        "status",
        "test",
        "webmail",
        "www",
    ]
)
READER = "_reader"  # behind the name of a database: the user that reads it for us
SITE_UID_BASE = 200_000  # each site has a user id of its own: limits that the kernel keeps per user stay apart

FROZEN = "frozen"  # name of the file beside a generation's socket that closes the gate in its image: reads go on
CLOSED = "closed.json"  # name of the file among a site's secrets that closes the gate of all its generations for good
FIRST_MEDIA = "media"  # directory of a site's first set of media; a restored set has a number behind it

LOGS = "logs"
SITE_LOGS, EDGE_LOGS = f"{LOGS}/sites", f"{LOGS}/edge"
ACTIVITY_DOORS = "run/activity"
RECORDER_UID = 20102  # below every site's user id

LABEL_NAMESPACE = "provision.namespace"
LABEL_ROLE = "provision.role"
LABEL_SITE = "provision.site"
LABEL_GENERATION = "provision.generation"
LABEL_OPERATION = "provision.operation"
LABEL_SUBJECT = (
    "provision.subject"  # of a one-shot that runs under the lock of a subject: whoever holds it next ends it
)
LABEL_SPEC = "provision.spec"
ONE_SHOT_ROLES = frozenset({"one-shot", "look", "doctor", "edge-install", "release"})


def slug_problem(slug: str) -> str | None:
    """Return why ``slug`` cannot name a site, or None when it can."""
    if not slug:
        return "a slug cannot be empty"
    if len(slug) > SLUG_LENGTH:
        return f"a slug has at most {SLUG_LENGTH} characters, this one has {len(slug)}"
    if not SLUG.fullmatch(slug):
        return f"{slug!r} is no slug: a-z, 0-9 and single hyphens, a letter first (for example: kayane)"
    if slug in RESERVED_SLUGS:
        return f"the slug {slug!r} is reserved"
    return None


@dataclass(frozen=True)
class HostNames:
    """Names of what a host runs once, whatever the number of its sites."""

    namespace: str

    @property
    def database(self) -> str:
        """Return the database server's container name."""
        return f"{self.namespace}.database"

    @property
    def edge(self) -> str:
        """Return the edge's container name."""
        return f"{self.namespace}.edge"

    @property
    def cron(self) -> str:
        """Return the cron ticker's container name."""
        return f"{self.namespace}.cron"

    @property
    def recorder(self) -> str:
        """Return the container name of what records the sites' activity."""
        return f"{self.namespace}.recorder"

    @property
    def vital(self) -> tuple[str, ...]:
        """Return what every operation works through: without one of these nothing else can be asked."""
        return self.database, self.edge, self.cron


@dataclass(frozen=True)
class GenerationNames:
    """Names of what one generation of a site owns. Paths are relative to the host's data root."""

    namespace: str
    slug: str
    number: int

    @property
    def container(self) -> str:
        """Return the container's name."""
        return f"{self.namespace}.site.{self.slug}.{self.number}"

    @property
    def database(self) -> str:
        """Return the name of the database and of its user; slugs hold no underscore, so it is unambiguous."""
        return f"{self.slug.replace('-', '_')}_{self.number}"

    @property
    def reader(self) -> str:
        """Return the name of the database's second user: it reads all that a dump holds, and nothing stops it."""
        return f"{self.database}{READER}"

    @property
    def work_directories(self) -> tuple[str, str, str]:
        """Return the directories where one-shots beside the site put down backups, exports and what is in between.

        They are the site's own user's, and no site's container sees them.
        """
        return self.backup_directory, self.export_directory, self.scratch_directory

    @property
    def backup_directory(self) -> str:
        """Return where dump and manifest lie while a snapshot is taken."""
        return f"{self.site_directory}/work/backup"

    @property
    def export_directory(self) -> str:
        """Return where an export lies until it is fetched."""
        return f"{self.site_directory}/work/export"

    @property
    def scratch_directory(self) -> str:
        """Return where an operation puts down what is gone when it ends."""
        return f"{self.site_directory}/work/scratch"

    @property
    def fetched_directory(self) -> str:
        """Return where a snapshot's dump and manifest lie until the generation is made of them."""
        return f"{self.site_directory}/work/fetched-{self.number}"

    @property
    def reader_directory(self) -> str:
        """Return the directory of the reader's secret, which the site's container never sees."""
        return f"{self.directory}/reader"

    @property
    def site_directory(self) -> str:
        """Return the site's directory, which all its generations share."""
        return f"sites/{self.slug}"

    @property
    def directory(self) -> str:
        """Return the generation's own directory: code and secrets."""
        return f"{self.site_directory}/generations/{self.number}"

    @property
    def socket_parent(self) -> str:
        """Return the directory that holds the site's sockets and its ``current`` link."""
        return f"run/sites/{self.slug}"

    @property
    def socket_directory(self) -> str:
        """Return the directory of the generation's HTTP socket."""
        return f"{self.socket_parent}/{self.number}"

    @property
    def activity_directory(self) -> str:
        """Return the directory of the socket by which the site tells its activity; the recorder owns it."""
        return f"{ACTIVITY_DOORS}/{self.slug}"

    @property
    def log_directory(self) -> str:
        """Return the directory where the recorder writes it: no site sees it."""
        return f"{SITE_LOGS}/{self.slug}"

    @property
    def labels(self) -> dict[str, str]:
        """Return the labels that every container of this generation carries."""
        return {
            LABEL_NAMESPACE: self.namespace,
            LABEL_SITE: self.slug,
            LABEL_GENERATION: str(self.number),
        }
