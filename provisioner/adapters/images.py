"""Images, cached by content: when nothing that goes into one has changed, nothing is built."""

import fcntl
import hashlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provisioner import agent, named_files
from provisioner.adapters.docker_host import DockerHost
from provisioner.errors import BadInput, ProvisionError, Unavailable
from provisioner.inventory import Inventory, ReleaseSource
from provisioner.model.container import OneShot
from provisioner.render import resources

REPOSITORY = "provision"
SERVICE_SUITE = "trixie"  # Debian suite of the database and edge images
# Documentation, manual pages and translations of Debian's programs serve nobody in a container.
_BOOTSTRAP = (
    "--variant=minbase",
    '--aptopt=Acquire::Languages "none"',
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
)
# A candidate's suite is not released: its Release file may have expired where mirrors are frozen.
_BOOTSTRAP_CANDIDATE = ('--aptopt=Acquire::Check-Valid-Until "false"',)

_COMPILED = "__pycache__"  # of this Python, not of the image's

Tell = Callable[[str], None]


def silent(_line: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class BuiltRelease:
    """A release's image and the versions read from it."""

    image: str  # digest
    content_key: str
    wordpress: str
    php: str
    db_version: int
    themes: list[str]


def ensure_service_image(
    host: DockerHost, inventory: Inventory, name: str, *, fresh: bool = False, tell: Tell = silent
) -> str:
    """Return the digest of the image ``database``, ``edge`` or ``agent``, built if it is not there."""
    return _ensure(host, inventory, name, ReleaseSource(suite=SERVICE_SUITE), name, fresh, tell)[0]


def ensure_release(
    host: DockerHost, inventory: Inventory, release: str, *, fresh: bool = False, tell: Tell = silent
) -> BuiltRelease:
    """Return the image of ``release``, built if it is not there (or ``fresh``), with its versions.

    Raises:
        BadInput: the inventory names no such release, or its archive has another hash.
        ProvisionError: the build failed.

    """
    source = inventory.releases.get(release)
    if source is None:
        raise BadInput(f"{inventory.path}: no release {release!r}; there are {', '.join(inventory.releases)}")
    digest, key = _ensure(host, inventory, "site", source, f"site:{release}", fresh, tell)
    said = host.run(
        OneShot(
            name=f"{host.namespace}.release.{release}",
            image=digest,
            labels=host.role_labels("release"),
            command=["cat", "/srv/provision/release.json"],
        )
    ).require_success(f"reading the versions of release {release}")
    versions = json.loads(said)
    return BuiltRelease(digest, key, **versions)


def release_key(inventory: Inventory, release: str) -> str:
    """Return the hash of all that goes into a release's image."""
    return _keys(inventory, "site", inventory.releases[release])[1]


def _keys(inventory: Inventory, name: str, source: ReleaseSource) -> tuple[str, str]:
    """Return the content hashes of the base image and of the image ``name`` that is built on it."""
    base_key = _hash(source.suite, *_bootstrap(source), inventory.base_image or "")
    return base_key, _hash(base_key, source.sha256 or "", *(f"{path}:{digest}" for path, digest in _tree(name)))


def _ensure(
    host: DockerHost,
    inventory: Inventory,
    name: str,
    source: ReleaseSource,
    label: str,
    fresh: bool,
    tell: Tell,
) -> tuple[str, str]:
    archive = _archive(inventory, source)
    base_key, key = _keys(inventory, name, source)
    tag = f"{REPOSITORY}/{label.replace(':', '-')}:{key}"
    # Two processes that need the same image build it once.
    with (Path(tempfile.gettempdir()) / f"provision-build-{os.getuid()}-{key}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if fresh or host.image(tag) is None:
            base = _ensure_base(host, inventory, source, base_key, fresh, tell)
            _build(host, _context(name, archive), tag, base, fresh=fresh, tell=tell)
    image = host.image(tag)
    if image is None:
        raise ProvisionError(f"host {host.name}: image {tag} vanished while it was built", "run it again")
    architecture = host.version()["Arch"]
    if image["Architecture"] != architecture:
        raise Unavailable(
            f"host {host.name}: image {tag} is for {image['Architecture']}, the host is {architecture}",
            "provision release build --refresh",
        )
    return str(image["Id"]), key


def _ensure_base(
    host: DockerHost, inventory: Inventory, source: ReleaseSource, key: str, fresh: bool, tell: Tell
) -> str:
    repository, tag = f"{REPOSITORY}/base", f"{source.suite}-{key}"
    if fresh or host.image(f"{repository}:{tag}") is None:
        if inventory.base_image is not None:
            reference = inventory.base_image.format(suite=source.suite)
            tell(f"pulling {reference}")
            _pull(host, reference)
            host.call(lambda api: api.tag(reference, repository, tag))
        else:
            _bootstrap_base(host, source, repository, tag, tell)
    return f"{repository}:{tag}"


def _bootstrap(source: ReleaseSource) -> tuple[str, ...]:
    return (*_BOOTSTRAP, *(_BOOTSTRAP_CANDIDATE if source.candidate else ()))


def _bootstrap_base(host: DockerHost, source: ReleaseSource, repository: str, tag: str, tell: Tell) -> None:
    tell(f"bootstrapping Debian {source.suite}")
    with tempfile.TemporaryDirectory(prefix="provision-base-") as folder:
        archive = Path(folder) / "base.tar"
        try:
            done = subprocess.run(
                ["mmdebstrap", *_bootstrap(source), source.suite, str(archive)],
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            raise Unavailable("mmdebstrap is not installed", "apt-get install mmdebstrap") from None
        if done.returncode != 0:
            raise ProvisionError(f"mmdebstrap {source.suite} failed: {' '.join(done.stderr.split())[-400:]}")
        # By file, not by stream: docker-py's stream announces both a length and chunks, which the engine refuses.
        host.call(lambda api: api.import_image_from_file(str(archive), repository=repository, tag=tag))
    if host.image(f"{repository}:{tag}") is None:
        raise ProvisionError(f"host {host.name}: import of {repository}:{tag} ended without an image")


def _pull(host: DockerHost, reference: str) -> None:
    for line in host.call(lambda api: api.pull(reference, stream=True, decode=True)):
        if "error" in line:
            raise ProvisionError(f"host {host.name}: pull of {reference}: {line['error']}")


def _build(host: DockerHost, context: bytes, tag: str, base: str, *, fresh: bool, tell: Tell) -> None:
    last: list[str] = []
    lines: Iterator[dict[str, Any]] = host.call(
        lambda api: api.build(
            fileobj=io.BytesIO(context),
            custom_context=True,
            tag=tag,
            buildargs={"BASE": base},
            nocache=fresh,
            network_mode="host",  # packages come the way the host itself gets them
            decode=True,
            rm=True,
            forcerm=True,
        )
    )
    for line in lines:
        if "error" in line:
            raise ProvisionError(f"host {host.name}: build of {tag}: {line['error']} {' | '.join(last[-3:])}")
        text = str(line.get("stream", "")).strip()
        if text:
            last.append(text)
        if text.startswith("Step "):
            tell(text)
    if host.image(tag) is None:  # a stream that just ends is no success
        raise ProvisionError(f"host {host.name}: build of {tag} ended without an image")


def _archive(inventory: Inventory, source: ReleaseSource) -> tuple[str, Path] | None:
    """Return the name that the build expects, and the file, of a release that comes from an archive."""
    if source.archive is None:
        return None
    path = inventory.resolve(source.archive)
    if not path.exists():
        raise BadInput(f"{path}: no such WordPress archive")
    with named_files.opened(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != source.sha256:
        raise BadInput(f"{path}: its SHA-256 is {digest}, the inventory says {source.sha256}")
    return ("wordpress.zip" if path.suffix == ".zip" else "wordpress.tar.gz"), path


def _folders(name: str) -> dict[str, Path]:
    """Return the folders that go into an image's build, by the place that each has there."""
    folders = {".": resources("templates") / "images" / name}
    if name == "agent":
        folders["program"] = Path(agent.__file__).parent
    return folders


def _tree(name: str) -> list[tuple[str, str]]:
    """Return path and hash of every file that goes into an image's build, in a fixed order."""
    return [
        (f"{place}/{path.relative_to(folder)}", hashlib.sha256(path.read_bytes()).hexdigest())
        for place, folder in _folders(name).items()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and _COMPILED not in path.parts
    ]


def _context(name: str, archive: tuple[str, Path] | None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as context:
        for place, folder in _folders(name).items():
            context.add(folder, arcname=place, filter=_owned_by_root)
        if archive is not None:
            context.add(archive[1], arcname=f"archive/{archive[0]}", filter=_owned_by_root)
    return buffer.getvalue()


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if Path(entry.name).name == _COMPILED:
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    return entry


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
