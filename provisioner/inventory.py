"""inventory.yaml: the council, its hosts, its domain and its policies. Typed, unknown keys refused.

Each key's documentation is its ``description`` here: the JSON schema for editors
(``docs/inventory.schema.json``) and the reference in docs/inventory.md are made from it.
"""

import os
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from provisioner.agreement.reminders import ReminderPolicy
from provisioner.errors import BadInput
from provisioner.fields import (
    BaseImage,
    DatabaseUrl,
    DataRoot,
    Euros,
    FilePath,
    HostName,
    Line,
    ListenAddress,
    MailAddress,
    Namespace,
    Port,
    ReleaseName,
    Sha256,
)
from provisioner.french import Article, Name, starts_with_vowel, usual_article
from provisioner.located_yaml import LocatedYaml

DEFAULT_PLACES = (Path("inventory.yaml"), Path("/etc/provision/inventory.yaml"))
REMOTE_TARGETS = ("sftp:", "rest:", "s3:", "b2:", "azure:", "gs:", "swift:", "rclone:")


class Section(BaseModel):
    """A mapping of inventory.yaml: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Council(Section):
    """The council, as the legal notice and the mails name it."""

    name: Line = Field(description="Full name without article; the host that each site's legal notice names.")
    article: Article | None = Field(
        None,
        description="Article before the name in a sentence; by default after its first word: la Commune.",
    )
    address: Line = Field(description="Postal address, on one line.")
    telephone: Line = Field(description="Telephone number shown to associations and in legal notices.")
    mail: MailAddress = Field(description="Where an association asks for help; shown on its login page.")
    representative: Line | None = Field(None, description="Name and office of who signs agreements for the council.")

    @property
    def in_sentence(self) -> Name:
        """Return the name as sentences need it: with its article, contracted with « de » and « à »."""
        return Name(self.name, self.article or usual_article(self.name))

    @model_validator(mode="after")
    def _elided(self) -> "Council":
        if self.article == "l'" and not starts_with_vowel(self.name):
            raise ValueError("article l' stands before a vowel or an h: is it le or la?")
        return self


class Legal(Section):
    """What the agreement's document says of the council; what is not given stands there as « [À compléter : …] »."""

    deliberation: Line | None = Field(
        None, description='What allows the signature: "la délibération n° 2026-12 du 3 mars 2026".'
    )
    alsace_moselle: bool = Field(
        False,
        description="Bas-Rhin, Haut-Rhin, Moselle: associations of local law; two more holidays.",
    )
    hosting_place: Line | None = Field(None, description="Where the machines and the backups stand: town and country.")
    subprocessors: list[Line] = Field(
        default_factory=list,
        description="Who else processes the sites' data: name, country, for what; empty for nobody.",
    )
    data_protection_officer: Line | None = Field(None, description="How to reach the data protection officer.")
    notice_mail: MailAddress | None = Field(
        None, description="Where anybody reports unlawful content; council.mail by default."
    )
    erasure_months: Annotated[int, Field(ge=1, le=60)] = Field(
        12,
        description="Months after an agreement within which you erase its site and backups; nothing erases them yet.",
    )


class EdgeAddress(Section):
    """Where a host's edge listens."""

    address: ListenAddress = Field("0.0.0.0", description="Address to listen on; 127.0.0.1 for a demonstration.")  # noqa: S104
    http_port: Port = Field(80, description="Port that only redirects to HTTPS.")
    https_port: Port = Field(443, description="Port of HTTPS.")


class Host(Section):
    """A machine with one Docker engine and one data root."""

    name: Namespace = Field(description="Short name, used in messages.")
    engine: Annotated[str, Field(pattern=r"^(unix:///|ssh://)\S+$")] = Field(
        "unix:///var/run/docker.sock", description="The engine: unix:///PATH or ssh://USER@HOST[:PORT]."
    )
    host_key: Line | None = Field(
        None, description="ssh:// only, required there: the host's public key, `ssh-ed25519 AAAA…`, pinned."
    )
    key_file: FilePath | None = Field(None, description="ssh:// only: private key file to log in with.")
    data_root: DataRoot = Field(
        description="Directory on the host that holds everything of this namespace; at most 38 characters."
    )
    probe_address: Line = Field("127.0.0.1", description="Address at which this machine reaches the edge.")
    edge: EdgeAddress = Field(default_factory=EdgeAddress, description="Where the edge listens.")
    free_disk_mb: Annotated[int, Field(ge=0, le=1_073_741_824)] = Field(
        1024, description="Free space in MiB on the data root below which no operation starts; below twice, an alarm."
    )
    free_inodes: Annotated[int, Field(ge=0, le=1_073_741_824)] = Field(
        10_000, description="Free inodes (files) on the data root, likewise."
    )

    @model_validator(mode="after")
    def _pinned(self) -> "Host":
        if self.engine.startswith("ssh://") and self.host_key is None:
            raise ValueError("an ssh:// engine needs host_key: the host's public key, pinned")
        return self


class MailServer(Section):
    """The SMTP server that takes the council's mails."""

    host: Line = Field(description="Name or address.")
    port: Port = Field(587, description="Port.")
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="starttls, tls, or none (loopback only)."
    )
    user: Line | None = Field(None, description="User name, when the server asks for one.")
    password_file: FilePath | None = Field(
        None, description="File that holds the password, readable by the operator alone."
    )

    @model_validator(mode="after")
    def _encrypted(self) -> "MailServer":
        if self.security == "none" and self.host not in ("localhost", "127.0.0.1", "::1"):
            raise ValueError("security: none is for a server on this very machine; use starttls or tls")
        return self


class Mail(Section):
    """How mails leave."""

    sender: MailAddress = Field(description="From address of every mail.")
    server: MailServer | None = Field(None, description="SMTP server; without it, mails become files in `folder`.")
    adviser: MailAddress | None = Field(
        None, description="Who gets a copy of what is written to an association about its agreement."
    )
    folder: FilePath = Field(Path("state/mail"), description="Where mails are written when no server is named.")


class Retention(Section):
    """Which snapshots are kept: the newest of each of so many days, weeks, months and years that have one."""

    daily: Annotated[int, Field(ge=1, le=3650)] = Field(14, description="Days.")
    weekly: Annotated[int, Field(ge=0, le=520)] = Field(8, description="Weeks.")
    monthly: Annotated[int, Field(ge=0, le=240)] = Field(12, description="Months.")
    yearly: Annotated[int, Field(ge=0, le=50)] = Field(3, description="Years.")


class Backup(Section):
    """Where backups go."""

    target: Line = Field(
        "backups", description="Directory of this machine, or any restic repository prefix (sftp:…, rest:…, s3:…)."
    )
    credentials: FilePath | None = Field(
        None, description="File of NAME=VALUE lines that restic needs for the target, such as AWS_ACCESS_KEY_ID."
    )
    login_key: FilePath | None = Field(None, description="sftp: only: private key file to log in with.")
    host_key: Line | None = Field(
        None, description="sftp: only, required there: the server's public key, `ssh-ed25519 AAAA…`, pinned."
    )
    append_only: bool = Field(
        False, description="The target takes additions only; pruning goes through prune_target and prune_credentials."
    )
    prune_target: Line | None = Field(None, description="The same repositories, at an address that may delete.")
    prune_credentials: FilePath | None = Field(None, description="As credentials, for pruning.")
    keep: Retention = Field(default_factory=Retention, description="Which snapshots are kept.")
    drill_days: Annotated[int, Field(ge=1, le=365)] = Field(
        30, description="Days within which every site's newest snapshot is restored for proof."
    )

    @property
    def is_remote(self) -> bool:
        """Return whether the target is reached over a network; otherwise it is a directory of this machine."""
        return self.target.startswith(REMOTE_TARGETS)

    @model_validator(mode="after")
    def _consistent(self) -> "Backup":
        if self.target.startswith("sftp:") and self.host_key is None:
            raise ValueError("an sftp: target needs host_key: the server's public key, pinned")
        if self.append_only and self.prune_target is None and self.prune_credentials is None:
            raise ValueError("append_only needs prune_target or prune_credentials: who deletes old snapshots?")
        return self


class ReleaseSource(Section):
    """Where a release's WordPress and PHP come from."""

    suite: Literal["bookworm", "trixie", "forky"] = Field(
        description="Debian suite that PHP (and WordPress) comes from."
    )
    candidate: bool = Field(False, description="Not offered to sites yet; its suite may have expired Release files.")
    archive: FilePath | None = Field(
        None, description="WordPress archive on disk (.tar.gz or .zip) instead of Debian's package."
    )
    sha256: Sha256 | None = Field(None, description="SHA-256 of the archive; required with it.")

    @model_validator(mode="after")
    def _hashed(self) -> "ReleaseSource":
        if (self.archive is None) != (self.sha256 is None):
            raise ValueError("archive and sha256 go together")
        return self


class AgreementPolicy(Section):
    """The agreement's rules (CONTEXT.md, exact rules); those in force when it is made stay with it."""

    term_years: Annotated[int, Field(ge=1, le=10)] = Field(3, description="Years of one term.")
    terms: Annotated[int, Field(ge=1, le=10)] = Field(3, description="Terms at most: 3 × 3 years = nine years.")
    notice_months: Annotated[int, Field(ge=0, le=12)] = Field(3, description="Notice period in months.")
    closing_days: Annotated[int, Field(ge=15, le=365)] = Field(
        30, description="Days that a site stays readable, exports offered, after its agreement; then it is archived."
    )
    reminders: ReminderPolicy = Field(default_factory=ReminderPolicy, description="When reminders leave.")


class AidPolicy(Section):
    """What the council gives is worth, in euros; the defaults are assumptions, set your own."""

    hosting_month: Euros = Field(Decimal("10.00"), description="Hosting of one site, updates and backups, per month.")
    domain_year: Euros = Field(Decimal("15.00"), description="A domain name of the association's own, per year.")
    support_year: Euros = Field(Decimal("50.00"), description="Training and support of one association, per year.")


class SitePolicy(Section):
    """What one site may use."""

    memory_mb: Annotated[int, Field(ge=128, le=1_048_576)] = Field(384, description="Memory in MiB.")
    cpus: Annotated[float, Field(gt=0, le=1024)] = Field(1.0, description="Processors.")
    processes: Annotated[int, Field(ge=20, le=32_768)] = Field(60, description="Processes and threads.")
    connections: Annotated[int, Field(ge=2, le=10_000)] = Field(20, description="Database connections at a time.")
    statement_seconds: Annotated[int, Field(ge=1, le=86_400)] = Field(
        60, description="Longest database statement, in seconds."
    )
    upload_mb: Annotated[int, Field(ge=1, le=256)] = Field(
        256, description="Largest upload in MiB; the images take no more than 256."
    )


class UpgradePolicy(Section):
    """How sites are upgraded."""

    freeze_seconds: Annotated[int, Field(ge=5, le=600)] = Field(
        60, description="Seconds for which an upgrade may refuse writes at most; a site that would need more is left."
    )
    tell: bool = Field(True, description="Whether the administrators get a mail once their site was upgraded.")


class ExtensionPolicy(Section):
    """Updates of plugins and themes."""

    mirror: FilePath | None = Field(
        None, description="Directory of packages: plugins/SLUG-VERSION.zip, themes/SLUG-VERSION.zip."
    )
    after_days: Annotated[int, Field(ge=0, le=365)] = Field(
        3, description="Days that a package lies in the mirror before sites get it."
    )
    held: dict[str, list[str]] = Field(
        default_factory=dict, description='By site: the extensions that it keeps as they are; "*" for all of them.'
    )


class NightlyPolicy(Section):
    """What happens every night, and who hears of it."""

    hour: Annotated[int, Field(ge=0, le=23)] = Field(
        2, description="Hour, Europe/Paris, at which `provision serve` begins the nightly run."
    )
    upgrade: Literal["off", "extensions", "all"] = Field(
        "off", description="What the night upgrades by itself: nothing, plugins and themes, or releases as well."
    )
    changes: Literal["propose", "read_only"] = Field(
        "propose",
        description="Planned changes whose day has come: proposed to the operator, or the night makes sites read-only.",
    )
    report_to: MailAddress | None = Field(
        None, description="Who gets alerts, failed nights and the weekly digest; council.mail by default."
    )


class Policy(Section):
    """Rules that the council chooses."""

    agreement: AgreementPolicy = Field(default_factory=AgreementPolicy, description="Terms and notice.")
    aid: AidPolicy = Field(default_factory=AidPolicy, description="Value of the aid in kind, in euros.")
    site: SitePolicy = Field(default_factory=SitePolicy, description="Limits of one site.")
    invitation_days: Annotated[int, Field(ge=1, le=60)] = Field(
        14, description="Days that an invitation's link is valid."
    )
    generation_days: Annotated[int, Field(ge=1, le=90)] = Field(
        7, description="Days that a generation is kept after another took its place; `provision undo` returns to it."
    )
    activity_log_days: Annotated[int, Field(ge=365, le=1096)] = Field(
        365, description="Days that log-ins, publications and changes of roles of each site stay on record."
    )
    access_log_days: Annotated[int, Field(ge=180, le=365)] = Field(
        365, description="Days that the edge's access logs, which hold visitors' addresses, are kept."
    )
    parallel: Annotated[int, Field(ge=1, le=16)] = Field(3, description="Sites worked on at the same time.")
    upgrade: UpgradePolicy = Field(default_factory=UpgradePolicy, description="How sites are upgraded.")
    nightly: NightlyPolicy = Field(default_factory=NightlyPolicy, description="The nightly run.")
    extensions: ExtensionPolicy = Field(default_factory=ExtensionPolicy, description="Updates of plugins and themes.")


class Inventory(Section):
    """The whole of inventory.yaml."""

    namespace: Namespace = Field(
        "provision",
        description="Prefix of everything this installation owns; installations with different ones never meet.",
    )
    state: FilePath = Field(
        Path("state"), description="Directory of the control plane's own data, relative to this file."
    )
    database_url: DatabaseUrl | None = Field(
        None, description="SQLAlchemy URL of the state database; SQLite in `state` by default."
    )
    council: Council = Field(description="The council.")
    legal: Legal = Field(default_factory=Legal, description="What the agreement's document says of the council.")
    domain: HostName = Field(description="Sites are SLUG.DOMAIN unless they have a name of their own.")
    hosts: Annotated[list[Host], Field(min_length=1)] = Field(description="Machines; sites are created on the first.")
    mail: Mail = Field(description="How mails leave.")
    backup: Backup = Field(default_factory=Backup, description="Where backups go.")
    conventions: FilePath = Field(
        Path("conventions"), description="Directory of the agreements' documents, and of the council's own template."
    )
    base_image: BaseImage | None = Field(
        None,
        description="Base image to pull, with {suite}, such as debian:{suite}-slim; made by mmdebstrap by default.",
    )
    releases: Annotated[dict[ReleaseName, ReleaseSource], Field(min_length=1)] = Field(
        default_factory=lambda: {
            "6.1": ReleaseSource(suite="bookworm"),
            "6.8": ReleaseSource(suite="trixie"),
            "7.1": ReleaseSource(suite="forky", candidate=True),
        },
        description="Releases by name.",
    )
    default_release: str = Field("6.8", description="Release of new sites.")
    policy: Policy = Field(default_factory=Policy, description="Rules that the council chooses.")

    _path: Path = PrivateAttr(default=Path("inventory.yaml"))

    @model_validator(mode="after")
    def _consistent(self) -> "Inventory":
        if self.default_release not in self.releases:
            raise ValueError(f"default_release {self.default_release!r} is not among releases")
        if len({host.name for host in self.hosts}) < len(self.hosts):
            raise ValueError("two hosts have the same name")
        return self

    def resolve(self, path: Path) -> Path:
        """Return ``path`` of the inventory, relative to the inventory's own folder."""
        return (self._path.parent / path).resolve()

    @property
    def operators_mail(self) -> str:
        """Return where the operators are told what they must know."""
        return self.policy.nightly.report_to or self.council.mail

    @property
    def path(self) -> Path:
        """Return the file that this was read from."""
        return self._path

    @property
    def state_directory(self) -> Path:
        """Return the directory of the control plane's own data."""
        return self.resolve(self.state)

    @property
    def backup_target(self) -> str:
        """Return where backups go: a prefix of restic's, or the whole path of a directory."""
        return self.backup.target if self.backup.is_remote else str(self.resolve(Path(self.backup.target)))

    @property
    def named_files(self) -> list[Path]:
        """Return the files that a rebuilt control plane needs beside this one, as they are written here."""
        backup, server = self.backup, self.mail.server
        named = [
            *(host.key_file for host in self.hosts),
            server.password_file if server else None,
            *(backup.credentials, backup.login_key, backup.prune_credentials),
            *(source.archive for source in self.releases.values()),
        ]
        return list(dict.fromkeys(path for path in named if path is not None))

    def host(self, name: str) -> Host:
        """Return the host called ``name``.

        Raises:
            BadInput: the inventory has no such host.

        """
        for host in self.hosts:
            if host.name == name:
                return host.model_copy(update={"key_file": self.resolve(host.key_file) if host.key_file else None})
        raise BadInput(f"{self._path}: no host is called {name!r}")


def find(path: Path | None) -> Path:
    """Return the inventory to use: ``path``, $PROVISION_INVENTORY, or the first default place that exists."""
    if path is not None:
        return path
    named = os.environ.get("PROVISION_INVENTORY")
    if named:
        return Path(named)
    return next((place for place in DEFAULT_PLACES if place.exists()), DEFAULT_PLACES[0])


def load(path: Path, as_if: Path | None = None) -> Inventory:
    """Read and check ``path``; what it names lies relative to its own place, or to that of ``as_if``.

    Raises:
        BadInput: no such file, or a fault, with its line and column.

    """
    if not os.path.exists(path):  # Path.exists raises on a name that is too long
        raise BadInput(f"{path}: no such inventory", "provision init   (asks for what it needs and writes one)")
    inventory = LocatedYaml(path).parse(Inventory)
    inventory._path = (as_if or path).absolute()
    return inventory
