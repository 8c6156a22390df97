"""What an association takes along: written on its host, packed there, brought to the operator's machine."""

import hashlib
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from provisioner import clock, render
from provisioner.adapters import images
from provisioner.agent.protocol import CopyPages, ExportWordPress, Pack, Stage, Weigh, Weight
from provisioner.errors import ProvisionError
from provisioner.french import in_full
from provisioner.model.container import Bind, OneShot
from provisioner.steps.beside import ask, inside
from provisioner.steps.site import SiteWork
from provisioner.steps.snapshot import remove_staging

_ARCHIVE = "/export/archive.zip"
_TEXTS = {"LISEZMOI.txt": "readme", "NOM-DE-DOMAINE.txt": "domain"}  # in the archive, and its template


def weigh(work: SiteWork) -> Weight:
    """Return how many files and bytes the generation's export would hold."""
    return ask(work, Weigh(work.number), [*inside(work, work.generation), *_content(work)])


def dump_database(work: SiteWork) -> None:
    """Write the database's dump, without sessions and keys of links, and the list of administrators."""
    binds = [*inside(work, work.generation), *_staged(work)]
    work.note("staged", asdict(ask(work, Stage(work.number), binds)))


def export_wordpress(work: SiteWork) -> None:
    """Let WordPress write its own export, and list the addresses of what is published."""
    written = Bind(work.names.scratch_directory, "/export")
    work.note("wordpress", asdict(work.run_in_site(ExportWordPress(), more=[written])))


def copy_pages(work: SiteWork) -> None:
    """Copy the published pages from the generation's own socket, to be opened from a disk."""
    binds = [Bind(work.names.socket_directory, "/run/site", read_only=True), *_staged(work)]
    work.note("copied", asdict(ask(work, CopyPages(work.url), binds)))


def pack_archive(work: SiteWork) -> None:
    """Pack all of it into one archive, with the checksum of each file."""
    request = Pack(f"{work.slug}-{work.notes['day']}", _texts(work))
    binds = [*_staged(work), *_content(work)]
    packed = ask(work, request, binds)
    work.middle()
    work.note("packed", asdict(packed))


def fetch_archive(work: SiteWork) -> None:
    """Bring the archive to this machine; it gets its name when it is whole."""
    packed = work.notes["packed"]
    target, part = _target(work), _part(work)
    try:
        if target.exists():
            if not _is_ours(work):
                raise ProvisionError(f"{target} exists by now, and is another file", "name another by --to")
            part.unlink(missing_ok=True)
            return
        work.host.fetch(_holder(work), _ARCHIVE, part, size=packed["bytes"], sha256=packed["sha256"])
        work.middle()
        _name(part, target)
        _sync(target.parent)
    except OSError as error:
        raise ProvisionError(f"{target}: {error.strerror or error}", "name another place by --to") from None


def remove_fetched(work: SiteWork) -> None:
    """Remove the archive from this machine, whole or in part, as far as this operation brought it."""
    _part(work).unlink(missing_ok=True)
    if "packed" in work.notes and _is_ours(work):
        _target(work).unlink()
    remove_export(work)


def remove_export(work: SiteWork) -> None:
    """Remove from the host what the export was made of."""
    remove_staging(work, work.names.export_directory, work.names.scratch_directory)


def _texts(work: SiteWork) -> dict[str, str]:
    """Return what explains the archive, in the association's language."""
    values: dict[str, Any] = {
        "site": work.site,
        "generation": work.generation,
        "council": work.installation.inventory.council,
        "domain": work.installation.inventory.domain,
        "url": work.url,
        "day": in_full(clock.now()),
        "copied": work.notes["copied"],
        "administrators": work.notes["staged"]["administrators"],
    }
    return {name: render.text(f"export/{template}.txt.j2", **values) for name, template in _TEXTS.items()}


def _content(work: SiteWork) -> list[Bind]:
    """Return the mounts of what the association owns: a link in it leads to nothing of the host's."""
    names = work.names
    return [
        Bind(f"{names.directory}/content", "/content", read_only=True),
        Bind(f"{names.site_directory}/{work.generation.media}", "/content/uploads", read_only=True),
    ]


def _staged(work: SiteWork) -> list[Bind]:
    """Return the mounts of what is staged: ours, and what WordPress writes, of whose parents none is the site's."""
    return [Bind(work.names.export_directory, "/export"), Bind(work.names.scratch_directory, "/wordpress")]


def _holder(work: SiteWork) -> OneShot:
    return OneShot(
        name=f"{work.installation.namespace}.op.{work.operation_id}.{work.slug}.fetch",
        image=images.ensure_service_image(work.host, work.installation.inventory, "agent"),
        labels=work.operation_labels,
        command=["never-run"],
        binds=[Bind(work.names.export_directory, "/export", read_only=True)],
    )


def _target(work: SiteWork) -> Path:
    return Path(work.notes["target"])


def _part(work: SiteWork) -> Path:
    """Return where the archive lies until it is whole: beside its place, so that it gets its name at once."""
    target = _target(work)
    return target.with_name(f".{target.name}.{work.operation_id}.part")


def _name(part: Path, target: Path) -> None:
    """Give ``part`` its name. A link never takes the place of a file that appeared meanwhile, as a rename would."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links, such as that of most USB keys
        part.rename(target)
    else:
        part.unlink()


def _is_ours(work: SiteWork) -> bool:
    """Return whether what lies at the target is the archive that this operation packed."""
    packed, target = work.notes["packed"], _target(work)
    if not target.is_file() or target.stat().st_size != packed["bytes"]:
        return False
    with target.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == str(packed["sha256"])


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
