"""What the control plane asks of the programs on its hosts, and what they answer: one type per request and answer.

Two programs answer. The agent (this package) is always as new as the control plane. A site's own program
(templates/images/site/provision.php) comes with the image of its generation, which may be older: an image says which
protocol it speaks (`LABEL`), and the control plane speaks those in `SPOKEN`.

Requests and answers are dataclasses. What is stored as well, in snapshots and in the journal, are typed dictionaries.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Generic, NotRequired, TypedDict, TypeVar

LABEL = "provision.protocol"  # of a site's image
FIRST = 1  # the protocol of images that carry no label: they are older than it
CURRENT = 2  # what templates/images/site/Dockerfile writes into new images; a test compares them
SPOKEN = frozenset({1, 2})

A = TypeVar("A")


class Request(Generic[A]):
    """Something that a program on a host is asked to do; ``A`` is the type of its answer."""

    verb: ClassVar[str]


@dataclass(frozen=True)
class Done:
    """The answer where nothing else is to be said."""


# What is stored


class Identity(TypedDict):
    """What tells one site's snapshot from any other's."""

    format: int
    namespace: str
    site: str
    netloc: str
    generation: int
    release: str
    image: str
    wordpress: str
    php: str


class Owner(TypedDict):
    """Whose a snapshot must be."""

    site: str
    namespace: str


class Administrator(TypedDict):
    """Who administers a site."""

    login: str
    mail: str


class DatabaseFacts(TypedDict):
    """What can be compared of a database."""

    engines: dict[str, str]  # by table
    rows: dict[str, int]  # by table
    views: list[str]
    triggers: list[str]
    routines: list[str]
    events: list[str]
    db_version: str
    active_plugins: list[str]
    stylesheet: str
    users: int
    administrators: list[Administrator]
    sessions: list[str]
    application_passwords: list[str]
    bytes: NotRequired[int]  # of the dump, in a manifest
    sha256: NotRequired[str]  # of the dump, in a manifest


class ContentFacts(TypedDict):
    """What can be compared of the files in wp-content."""

    files: int
    bytes: int
    sample: dict[str, str]  # SHA-256 by path
    plugins: list[str]
    themes: list[str]
    unread: NotRequired[list[str]]  # what the site's own user cannot read, and sockets: no snapshot holds it


class Manifest(Identity):
    """What a snapshot says of itself."""

    settled: bool  # False: files changed all the time, so their number and bytes are of another moment
    database: DatabaseFacts
    content: ContentFacts


class FileEntry(TypedDict):
    """One file of the control plane in a manifest."""

    sha256: str
    mode: int


class ControlPlaneManifest(TypedDict):
    """What a snapshot of the control plane says of itself."""

    format: int
    namespace: str
    site: str
    program: str
    sites: list[str]
    named: dict[str, str]
    files: dict[str, FileEntry]


class Package(TypedDict):
    """A plugin or theme that a site's program may install: its archive lies in the container."""

    kind: str
    slug: str
    version: str
    file: str
    translations: list[str]


# Repositories


@dataclass(frozen=True)
class Access:
    """Where a restic repository is, and how to open it: said in the request, never in arguments or environment."""

    address: str
    key: str
    credentials: Mapping[str, str]
    login_key: str = ""
    host_key: str = ""
    cache: bool = False  # whether reading the target twice costs more than remembering it
    relayed: bool = False  # whether it is reached by /relay/socket alone, on whose other side a `Relay` runs


@dataclass(frozen=True)
class Relay(Request[Done]):
    """Stand between a one-shot that reads a site's files and its repository, for as long as that one-shot runs.

    ``reaches`` is "directory" (by sftp), "ssh" (sftp on another machine), "tcp" (one plain connection each) or "tls"
    (what a client asks for by HTTP's CONNECT).
    """

    verb: ClassVar[str] = "relay"
    reaches: str
    ssh: list[str] = field(default_factory=list)  # arguments of ssh: port and login
    address: str = ""  # HOST:PORT
    login_key: str = ""
    host_key: str = ""


@dataclass(frozen=True)
class SnapshotEntry:
    """One snapshot as its repository lists it; ``time`` as restic writes it."""

    id: str
    time: str
    tags: list[str]
    total_bytes: int
    files: int


@dataclass(frozen=True)
class Figures:
    """How much one snapshot took."""

    snapshot: str
    time: str
    new_bytes: int
    total_bytes: int
    files: int


@dataclass(frozen=True)
class Initialized:
    """Whether the repository was made."""

    made: bool


@dataclass(frozen=True)
class Initialize(Request[Initialized]):
    """Make the repository unless it is there."""

    verb: ClassVar[str] = "initialize"


@dataclass(frozen=True)
class Taken:
    """One verified snapshot of a site."""

    figures: Figures
    seconds: float
    retaken: int
    manifest: Manifest


@dataclass(frozen=True)
class Take(Request[Taken]):
    """Take one verified snapshot of a site."""

    verb: ClassVar[str] = "take"
    identity: Identity
    operation: int
    again: bool  # an earlier run of the operation may have left a snapshot
    append_only: bool
    time: str


@dataclass(frozen=True)
class Snapshots:
    """What a repository holds, oldest first."""

    found: list[SnapshotEntry]


@dataclass(frozen=True)
class ListSnapshots(Request[Snapshots]):
    """List the snapshots that carry all of ``tags``."""

    verb: ClassVar[str] = "snapshots"
    tags: list[str]


@dataclass(frozen=True)
class ManifestFound:
    """What a snapshot says of itself."""

    manifest: Manifest


@dataclass(frozen=True)
class ReadManifest(Request[ManifestFound]):
    """Read the manifest that a snapshot holds."""

    verb: ClassVar[str] = "manifest"
    snapshot: str


@dataclass(frozen=True)
class Fetch(Request[ManifestFound]):
    """Restore a snapshot into a generation's directories; ``files`` says whether with its files, or the dump alone."""

    verb: ClassVar[str] = "fetch"
    snapshot: str
    files: bool
    owner: Owner


@dataclass(frozen=True)
class Placed:
    """The files that are in their places, by their paths below wp-content."""

    files: list[str]


@dataclass(frozen=True)
class Place(Request[Placed]):
    """Put files of a snapshot into their places in the generation that serves."""

    verb: ClassVar[str] = "place"
    snapshot: str
    paths: list[str]
    number: int
    media: str
    operation: int


@dataclass(frozen=True)
class PutBack(Request[Done]):
    """Undo `Place`."""

    verb: ClassVar[str] = "put-back"
    number: int
    media: str
    operation: int


@dataclass(frozen=True)
class CodeDifferences:
    """Code files of a generation that a snapshot has not, has otherwise, or has alone."""

    added: list[str]
    changed: list[str]
    removed: list[str]


@dataclass(frozen=True)
class CompareCode(Request[CodeDifferences]):
    """Compare a generation's code with a snapshot's."""

    verb: ClassVar[str] = "code"
    snapshot: str
    number: int


@dataclass(frozen=True)
class Check(Request[Done]):
    """Check a repository's structure, and the ``part`` of its data ("7/30"); an empty part reads no data."""

    verb: ClassVar[str] = "check"
    part: str


@dataclass(frozen=True)
class Plan:
    """What a retention would keep and remove."""

    keep: list[SnapshotEntry]
    remove: list[SnapshotEntry]


@dataclass(frozen=True)
class PlanPruning(Request[Plan]):
    """Ask which snapshots restic would keep and remove by rules such as ``--keep-daily=14``."""

    verb: ClassVar[str] = "plan"
    keep: list[str]


@dataclass(frozen=True)
class Forget(Request[Done]):
    """Remove snapshots from the list; their data stay until the repository is pruned."""

    verb: ClassVar[str] = "forget"
    snapshots: list[str]


@dataclass(frozen=True)
class Prune(Request[Done]):
    """Remove snapshots, and the data that nothing needs then."""

    verb: ClassVar[str] = "prune"
    snapshots: list[str]


@dataclass(frozen=True)
class Lock:
    """Who holds a lock of a repository, since when."""

    hostname: str
    time: str


@dataclass(frozen=True)
class Locks:
    """The locks of a repository."""

    found: list[Lock]


@dataclass(frozen=True)
class ListLocks(Request[Locks]):
    """List the locks of a repository."""

    verb: ClassVar[str] = "locks"


@dataclass(frozen=True)
class Unlock(Request[Done]):
    """Remove all locks of a repository."""

    verb: ClassVar[str] = "unlock"


@dataclass(frozen=True)
class KeepControlPlane(Request[Figures]):
    """Take a snapshot of the control plane's files, which lie in the container."""

    verb: ClassVar[str] = "keep"
    append_only: bool
    time: str
    operation: str


@dataclass(frozen=True)
class ControlPlaneFound:
    """What a snapshot of the control plane says of itself."""

    manifest: ControlPlaneManifest


@dataclass(frozen=True)
class GiveBackControlPlane(Request[ControlPlaneFound]):
    """Restore a snapshot of the control plane into the container."""

    verb: ClassVar[str] = "give-back"
    snapshot: str
    owner: Owner


# Generations


@dataclass(frozen=True)
class Load(Request[Done]):
    """Load the dump that `Fetch` left into the generation's database."""

    verb: ClassVar[str] = "load"
    number: int


@dataclass(frozen=True)
class Rewritten:
    """How many rows changed."""

    changed: int


@dataclass(frozen=True)
class Rewrite(Request[Rewritten]):
    """Replace a site's old address (host name, and port if any) by its new one in its database."""

    verb: ClassVar[str] = "rewrite"
    number: int
    old: str
    new: str


@dataclass(frozen=True)
class Measured:
    """What a manifest would say of a generation as it is now."""

    database: DatabaseFacts
    content: ContentFacts


@dataclass(frozen=True)
class Measure(Request[Measured]):
    """Measure a generation; ``sample`` names the files whose hashes are wanted."""

    verb: ClassVar[str] = "measure"
    number: int
    media: str
    sample: list[str]


@dataclass(frozen=True)
class Changes:
    """What was made, changed and deleted of one kind of content, by its names."""

    made: list[str]
    changed: list[str]
    deleted: list[str]


@dataclass(frozen=True)
class Compared:
    """What differs between two generations, by kind of content."""

    since: dict[str, Changes]


@dataclass(frozen=True)
class Compare(Request[Compared]):
    """Compare the databases of two generations of one site."""

    verb: ClassVar[str] = "compare"
    earlier: int
    later: int


@dataclass(frozen=True)
class CopyCode(Request[Done]):
    """Make the code of generations equal to that of another."""

    verb: ClassVar[str] = "copy"
    source: int
    targets: list[int]


@dataclass(frozen=True)
class FillTwins(Request[Done]):
    """Dump the database of the generation that serves, and load it into those of the generations ``targets``."""

    verb: ClassVar[str] = "twins"
    source: int
    targets: list[int]


@dataclass(frozen=True)
class DatabaseCopied:
    """How many tables have equal checksums on both sides, and the seconds that it took."""

    tables: int
    seconds: float


@dataclass(frozen=True)
class CopyGeneration(Request[DatabaseCopied]):
    """Wait until the switch of the operation says that nothing writes any more; then copy code and database."""

    verb: ClassVar[str] = "copy-generation"
    source: int
    target: int
    operation: int
    patience: float  # seconds that it waits


@dataclass(frozen=True)
class Twin:
    """One of two twins: the number of its generation, and its administrator's cookie."""

    number: int
    cookie: str


@dataclass(frozen=True)
class Comparison:
    """What a rehearsal found, a phrase each, and how many pages it saw."""

    differences: list[str]
    pages: int


@dataclass(frozen=True)
class ComparePages(Request[Comparison]):
    """Ask two twins for the same pages and compare what they show."""

    verb: ClassVar[str] = "rehearse"
    host: str
    baseline: Twin
    upgraded: Twin
    paths: list[str]


@dataclass(frozen=True)
class LockedOut:
    """How many sessions, application passwords and links were ended."""

    ended: int


@dataclass(frozen=True)
class LockOut(Request[LockedOut]):
    """End every session, application password and link for a new password."""

    verb: ClassVar[str] = "lock-out"
    number: int


@dataclass(frozen=True)
class RenewSalts(Request[Done]):
    """Give the site new salts."""

    verb: ClassVar[str] = "new-salts"


# Exports


@dataclass(frozen=True)
class Weight:
    """How much an export holds."""

    files: int
    bytes: int
    database_bytes: int


@dataclass(frozen=True)
class Weigh(Request[Weight]):
    """Weigh what an export would hold."""

    verb: ClassVar[str] = "weigh"
    number: int


@dataclass(frozen=True)
class Staged:
    """How many rows the dump of an export holds, and how many administrators its list names."""

    rows: int
    administrators: int


@dataclass(frozen=True)
class Stage(Request[Staged]):
    """Write the dump and the list of administrators of an export."""

    verb: ClassVar[str] = "stage"
    number: int


@dataclass(frozen=True)
class CopiedPages:
    """What a copy of a site's pages holds, and which published ones could not be fetched."""

    pages: int
    pages_left_out: int
    pages_missing: list[str]


@dataclass(frozen=True)
class CopyPages(Request[CopiedPages]):
    """Copy the published pages of a site, to be opened from a disk."""

    verb: ClassVar[str] = "pages"
    url: str


@dataclass(frozen=True)
class Packed:
    """The figures of an archive."""

    files: int
    content_bytes: int
    links: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Pack(Request[Packed]):
    """Pack an export into one archive, with ``texts`` (by name) in its ``folder``."""

    verb: ClassVar[str] = "pack"
    folder: str
    texts: dict[str, str]


# Logs


@dataclass(frozen=True)
class ActivityRead:
    """How many lines lie in the container now."""

    lines: int


@dataclass(frozen=True)
class ReadActivity(Request[ActivityRead]):
    """Leave the newest ``count`` lines of a site's activity in the container."""

    verb: ClassVar[str] = "activity"
    slug: str
    count: int


@dataclass(frozen=True)
class LogsTidied:
    """What became of the logs, in files and bytes."""

    compressed: int
    dropped: int
    bytes: int


@dataclass(frozen=True)
class TidyLogs(Request[LogsTidied]):
    """Compress the logs of past days, and drop those older than so many days."""

    verb: ClassVar[str] = "tidy-logs"
    today: str  # a date in UTC
    activity: int  # days
    access: int  # days


# The switch


@dataclass(frozen=True)
class SwitchEvent:
    """What the switch says as it goes: frozen, still, serves or thawed."""

    event: str
    seconds: float = 0.0  # since the first refusal of a write
    reason: str = ""  # why it thawed what served


@dataclass(frozen=True)
class Switch(Request[SwitchEvent]):
    """Freeze the generation that serves, and make its copy serve when told so in time."""

    verb: ClassVar[str] = "switch"
    source: int  # numbers of generations
    target: int
    user: str
    seconds: float  # from the first refusal of a write to the end, whatever happens
    patience: float  # seconds that a request which is under way gets
    allow: dict[str, list[str]]  # statements by generation
    forbid: list[str]
    operation: int


# The site's own program


@dataclass(frozen=True)
class Installed:
    """The versions of a site, and its administrators' logins."""

    wordpress: str
    php: str
    db_version: int
    administrators: list[str]


class SiteToInstall(TypedDict):
    """What WordPress must know of a new site."""

    title: str
    tagline: str
    url: str
    theme: str | None


class Invited(TypedDict):
    """A new administrator, with the token of the link that is sent."""

    name: str
    mail: str
    login: str
    token: str


@dataclass(frozen=True)
class Install(Request[Installed]):
    """Install WordPress with its kit and its administrators."""

    verb: ClassVar[str] = "install"
    site: SiteToInstall
    administrators: list[Invited]
    kit: dict[str, object]
    reset_days: int


@dataclass(frozen=True)
class Published:
    """Whether search engines are welcome."""

    public: bool


@dataclass(frozen=True)
class Publish(Request[Published]):
    """Let search engines index the site, or ask them not to."""

    verb: ClassVar[str] = "publish"
    public: bool


@dataclass(frozen=True)
class LinkRenewed:
    """Whose link was renewed."""

    login: str
    mail: str


@dataclass(frozen=True)
class Invite(Request[LinkRenewed]):
    """Give an administrator a new link, which works for so many days."""

    verb: ClassVar[str] = "invite"
    mail: str
    token: str
    reset_days: int


@dataclass(frozen=True)
class Upgraded:
    """What an upgrade brought and held back, and the versions after it."""

    updated: list[str]
    held: list[str]
    wordpress: str
    php: str
    db_version: int


@dataclass(frozen=True)
class Upgrade(Request[Upgraded]):
    """Update extensions from packages, and bring the database to this WordPress's version."""

    verb: ClassVar[str] = "upgrade"
    packages: list[Package]


@dataclass(frozen=True)
class Facts:
    """What a site says of itself."""

    wordpress: str
    php: str
    db_version: int
    administrators: list[Administrator]
    public: bool
    theme: str
    plugins: list[str]
    outdated: list[str] = field(default_factory=list)  # slugs of packages that are newer than what is installed


@dataclass(frozen=True)
class AskFacts(Request[Facts]):
    """Ask a site for its facts, and which of ``packages`` it could take."""

    verb: ClassVar[str] = "facts"
    packages: list[Package]


@dataclass(frozen=True)
class Rehearsable:
    """How a twin can be looked at: as its administrator, and by which paths."""

    cookie: str
    paths: list[str]


@dataclass(frozen=True)
class Rehearse(Request[Rehearsable]):
    """Prepare a twin to be looked at, with its newest ``pages`` pages."""

    verb: ClassVar[str] = "rehearse"
    pages: int


@dataclass(frozen=True)
class WordPressExported:
    """WordPress's own export: its bytes, and how many addresses were listed."""

    bytes: int
    pages: int


@dataclass(frozen=True)
class ExportWordPress(Request[WordPressExported]):
    """Let WordPress write its own export, and list the addresses of what is published."""

    verb: ClassVar[str] = "export"


@dataclass(frozen=True)
class Prepared:
    """The hashes of the passwords of a generation's two database users; the passwords stay on the host."""

    password_hash: str
    reader_hash: str = ""  # images of the first protocol make no reader


@dataclass(frozen=True)
class Prepare(Request[Prepared]):
    """Make a generation's directories, secrets and code (templates/images/site/prepare)."""

    verb: ClassVar[str] = "prepare"
    slug: str
    n: int
    uid: int
    database: str
    user: str
    host: str
    support: str
    media: str
    twin: bool


@dataclass(frozen=True)
class HandedOver:
    """The hash of the reader's password."""

    reader_hash: str


@dataclass(frozen=True)
class HandOver(Request[HandedOver]):
    """Make directories of a site for its own user, and the reader's secret of a generation unless there is one.

    Paths are relative to the data root. What is there already keeps its content.
    """

    verb: ClassVar[str] = "hand-over"
    uid: int
    directories: list[str]
    secrets: str  # directory of the reader's secret
    database: str
    user: str
