"""inventory.yaml: the council, its hosts, its domain and its policies. Typed, unknown keys refused.

Each key's documentation is its ``description`` here: the JSON schema for editors
(``docs/inventory.schema.json``) and the reference in docs/inventory.md are made from it.
"""

import os
import re
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Literal
from unicodedata import category

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from provisioner.errors import BadInput
from provisioner.located_yaml import LocatedYaml
from provisioner.model.names import DATA_ROOT_LENGTH

DEFAULT_PLACES = (Path("inventory.yaml"), Path("/etc/provision/inventory.yaml"))
NAMESPACE = re.compile(r"[a-z][a-z0-9-]{0,30}")
DATA_ROOT = re.compile(r"[A-Za-z0-9._/-]+")  # a colon would end a bind mount's source
HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)+")
SHA256 = re.compile(r"[0-9a-f]{64}")
_ENCODED_WORD = re.compile(r"=\?.*\?=")
_CONTROL = ("Cc", "Cs", "Zl", "Zp")  # Unicode's controls, surrogates, line and paragraph separators


def one_line(text: str) -> str:
    """Return ``text`` unless it holds a control character (G7: a line break forges headers) or shows nothing."""
    if any(category(character) in _CONTROL or character in "\ufffe\uffff" for character in text):
        raise ValueError("a line break or control character is not allowed")
    if _ENCODED_WORD.search(text):  # Python's mail headers decode it, with the line breaks in it
        raise ValueError("an encoded word of a mail header (=?…?=) is not allowed")
    if not any(character.isprintable() and not character.isspace() for character in text):
        raise ValueError("cannot be empty")
    return text


def host_name(text: str) -> str:
    """Return ``text`` when it is a full host name in lower case, and no IP address."""
    if not HOST_NAME.fullmatch(text) or text.rpartition(".")[2].isdigit():
        raise ValueError(f"{text!r} is no host name (lower case, for example: kayane.example.test)")
    return text


def mail_address(text: str) -> str:
    """Return ``text`` when it is a mail address that WordPress takes; whether it receives mail is not asked here."""
    from email_validator import EmailNotValidError, validate_email

    try:
        address = validate_email(text, check_deliverability=False, test_environment=True).normalized
    except EmailNotValidError as error:
        raise ValueError(f"{text!r} is no mail address: {' '.join(str(error).split())}") from None
    if not address.isascii() or "." not in address.partition("@")[2] or len(address) < 6:  # is_email() of WordPress
        raise ValueError(f"{text!r} is no mail address: a-z, 0-9 and punctuation, a full domain, 6 characters at least")
    return address


def _file(path: Path) -> Path:
    one_line(str(path))
    return path


def _listen(text: str) -> str:
    bracketed = text.startswith("[") and text.endswith("]") and "%" not in text
    return text if bracketed and IPv6Address(text[1:-1]) else str(IPv4Address(text))


def _database_url(text: str) -> str:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        backend = make_url(text).get_backend_name()
    except (ArgumentError, ValueError):
        backend = ""
    if backend not in ("sqlite", "postgresql"):
        raise ValueError("sqlite:///PATH or postgresql+DRIVER://… is expected")
    return text


def _base_image(text: str) -> str:
    if set("{}") & set(text.replace("{suite}", "")):
        raise ValueError("{suite} is all that may stand in braces")
    return text


def _namespace(text: str) -> str:
    if not NAMESPACE.fullmatch(text):
        raise ValueError("a-z, 0-9 and hyphens, a letter first, at most 31 characters")
    return text


def _data_root(path: Path) -> Path:
    if not path.is_absolute() or ".." in path.parts or len(path.parts) < 3:
        raise ValueError("an absolute path at least two levels deep, such as /srv/provision")
    if not DATA_ROOT.fullmatch(str(path)):
        raise ValueError("a-z, A-Z, 0-9, dots, hyphens, underscores and slashes")
    if len(str(path)) > DATA_ROOT_LENGTH:
        raise ValueError(f"at most {DATA_ROOT_LENGTH} characters: longer socket paths fail")
    return path


Line = Annotated[str, Field(max_length=250), AfterValidator(one_line)]
FilePath = Annotated[Path, AfterValidator(_file)]
HostName = Annotated[str, Field(max_length=253), AfterValidator(host_name)]
MailAddress = Annotated[str, Field(max_length=254), AfterValidator(one_line), AfterValidator(mail_address)]
ListenAddress = Annotated[str, AfterValidator(_listen)]
Port = Annotated[int, Field(ge=1, le=65535)]
ReleaseName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,30}$")]  # part of image and container names


class Section(BaseModel):
    """A mapping of inventory.yaml: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Council(Section):
    """The council, as the legal notice and the mails name it."""

    name: Line = Field(description="Full name; the host that each site's legal notice names.")
    address: Line = Field(description="Postal address, on one line.")
    telephone: Line = Field(description="Telephone number shown to associations and in legal notices.")
    mail: MailAddress = Field(description="Where an association asks for help; shown on its login page.")


class EdgeAddress(Section):
    """Where a host's edge listens."""

    address: ListenAddress = Field("0.0.0.0", description="Address to listen on; 127.0.0.1 for a demonstration.")  # noqa: S104
    http_port: Port = Field(80, description="Port that only redirects to HTTPS.")
    https_port: Port = Field(443, description="Port of HTTPS.")


class Host(Section):
    """A machine with one Docker engine and one data root."""

    name: Annotated[str, AfterValidator(_namespace)] = Field(description="Short name, used in messages.")
    engine: Annotated[str, Field(pattern=r"^(unix:///|ssh://)\S+$")] = Field(
        "unix:///var/run/docker.sock", description="The engine: unix:///PATH or ssh://USER@HOST[:PORT]."
    )
    host_key: Line | None = Field(
        None, description="ssh:// only, required there: the host's public key, `ssh-ed25519 AAAA…`, pinned."
    )
    key_file: FilePath | None = Field(None, description="ssh:// only: private key file to log in with.")
    data_root: Annotated[Path, AfterValidator(_data_root)] = Field(
        description="Directory on the host that holds everything of this namespace; at most 38 characters."
    )
    probe_address: Line = Field("127.0.0.1", description="Address at which this machine reaches the edge.")
    edge: EdgeAddress = Field(default_factory=EdgeAddress, description="Where the edge listens.")
    free_disk_mb: Annotated[int, Field(ge=0, le=1_073_741_824)] = Field(
        1024, description="Free space in MiB on the data root below which no operation starts."
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
    folder: FilePath = Field(Path("state/mail"), description="Where mails are written when no server is named.")


class Backup(Section):
    """Where backups go."""

    target: Line = Field("backups", description="Directory, or any restic repository prefix (sftp:…, rest:…).")


class ReleaseSource(Section):
    """Where a release's WordPress and PHP come from."""

    suite: Literal["bookworm", "trixie", "forky"] = Field(
        description="Debian suite that PHP (and WordPress) comes from."
    )
    candidate: bool = Field(False, description="Not offered to sites yet; its suite may have expired Release files.")
    archive: FilePath | None = Field(
        None, description="WordPress archive on disk (.tar.gz or .zip) instead of Debian's package."
    )
    sha256: str | None = Field(None, description="SHA-256 of the archive; required with it.")

    @model_validator(mode="after")
    def _hashed(self) -> "ReleaseSource":
        if (self.archive is None) != (self.sha256 is None):
            raise ValueError("archive and sha256 go together")
        if self.sha256 is not None and not SHA256.fullmatch(self.sha256):
            raise ValueError("sha256 is 64 lower-case hexadecimal digits")
        return self


class AgreementPolicy(Section):
    """The agreement's rules (CONTEXT.md, exact rules); those in force when it is made stay with it."""

    term_years: Annotated[int, Field(ge=1, le=10)] = Field(3, description="Years of one term.")
    terms: Annotated[int, Field(ge=1, le=10)] = Field(3, description="Terms at most: 3 × 3 years = nine years.")
    notice_months: Annotated[int, Field(ge=0, le=12)] = Field(3, description="Notice period in months.")


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


class Policy(Section):
    """Rules that the council chooses."""

    agreement: AgreementPolicy = Field(default_factory=AgreementPolicy, description="Terms and notice.")
    site: SitePolicy = Field(default_factory=SitePolicy, description="Limits of one site.")
    invitation_days: Annotated[int, Field(ge=1, le=60)] = Field(
        14, description="Days that an invitation's link is valid."
    )
    parallel: Annotated[int, Field(ge=1, le=16)] = Field(3, description="Sites worked on at the same time.")


class Inventory(Section):
    """The whole of inventory.yaml."""

    namespace: Annotated[str, AfterValidator(_namespace)] = Field(
        "provision",
        description="Prefix of everything this installation owns; installations with different ones never meet.",
    )
    state: FilePath = Field(
        Path("state"), description="Directory of the control plane's own data, relative to this file."
    )
    database_url: Annotated[Line, AfterValidator(_database_url)] | None = Field(
        None, description="SQLAlchemy URL of the state database; SQLite in `state` by default."
    )
    council: Council = Field(description="The council.")
    domain: HostName = Field(description="Sites are SLUG.DOMAIN unless they have a name of their own.")
    hosts: Annotated[list[Host], Field(min_length=1)] = Field(description="Machines; sites are created on the first.")
    mail: Mail = Field(description="How mails leave.")
    backup: Backup = Field(default_factory=Backup, description="Where backups go.")
    base_image: Annotated[Line, AfterValidator(_base_image)] | None = Field(
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
    def path(self) -> Path:
        """Return the file that this was read from."""
        return self._path

    @property
    def state_directory(self) -> Path:
        """Return the directory of the control plane's own data."""
        return self.resolve(self.state)

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


def load(path: Path) -> Inventory:
    """Read and check ``path``.

    Raises:
        BadInput: no such file, or a fault, with its line and column.

    """
    if not os.path.exists(path):  # Path.exists raises on a name that is too long
        raise BadInput(f"{path}: no such inventory", "provision init   (asks for what it needs and writes one)")
    inventory = LocatedYaml(path).parse(Inventory)
    inventory._path = path.absolute()
    return inventory


def write_new(path: Path, answers: dict[str, str], *, dry_run: bool) -> None:
    """Write a first inventory from templates/inventory.yaml.j2; nothing is written unless it is sound.

    Raises:
        BadInput: an answer is not acceptable, with the place it would have had.

    """
    import tempfile

    from provisioner import render

    server, _, port = answers["mail_server"].partition(":")
    if not (port or "587").isdecimal():
        raise BadInput(f"--mail-server {answers['mail_server']!r}: HOST, HOST:PORT or none is expected")
    text = render.text("inventory.yaml.j2", server=server, port=port or "587", **answers)
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / path.name
        draft.write_text(text, encoding="utf-8")
        LocatedYaml(draft).parse(Inventory)
    if dry_run:
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None
