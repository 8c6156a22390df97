"""`provision agreement document`: the agreement to be signed, from a template that the legal service edits."""

import hashlib
import re
from dataclasses import dataclass, replace
from datetime import date
from itertools import chain, count
from pathlib import Path

from provisioner import clock, eventlog, records, render
from provisioner.errors import BadInput, Unavailable
from provisioner.french import euros, in_full, in_words, in_years
from provisioner.installation import Installation
from provisioner.keys import write_private

TEMPLATE = "convention.html.j2"
MADE = "agreement document made"
PACKAGES = "libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 fonts-linuxlibertine"


@dataclass(frozen=True)
class Document:
    """The document of an agreement: the one that was just made, or the one that was kept."""

    slug: str
    file: Path
    sha256: str
    kept: bool = False
    newer_template: bool = False  # the template is another one than that which a kept document was made from


def html(installation: Installation, slug: str, start: date | None = None) -> str:
    """Return the agreement of ``slug``, or one to follow it from ``start`` on, as an HTML page that needs nothing else.

    Raises:
        BadInput: no such site, or a fault in the council's own template.

    """
    inventory = installation.inventory
    with installation.store.transaction() as session:
        site = records.site(session, slug)
        agreement = records.new_agreement(inventory, site.key, start) if start else records.agreement(session, site.key)
        administrators = records.administrators(session, site.key)
    own_name = None if site.host_name == f"{slug}.{inventory.domain}" else site.host_name
    return render.own_html(
        _folder(installation),
        TEMPLATE,
        association=site,
        council=inventory.council,
        administrators=administrators,
        agreement=agreement,
        terms=records.agreement_terms(agreement),
        aid=inventory.policy.aid,
        legal=inventory.legal,
        policy=inventory.policy,
        drill_days=inventory.backup.drill_days,
        url=installation.url(site.host_name, site.host),
        own_name=own_name,
        in_full=in_full,
        in_words=in_words,
        in_years=in_years,
        euros=euros,
        made_on=clock.today(),
    )


def make(
    installation: Installation, slug: str, target: Path | None, start: date | None = None, *, again: bool = False
) -> Document:
    """Make the agreement as a tagged PDF below the inventory's ``conventions``, and copy it to ``target``.

    A document that is there may have been handed over: it is kept as it is, whatever became of the template and the
    records, and returned. ``again`` makes another beside it. An agreement that is not signed yet awaits its signature
    from now on; one to follow, from ``start`` on, is on record once it is signed.

    Raises:
        BadInput: no such site, a fault in the template, or a target that exists or cannot be written.
        Unavailable: Pango or the font is missing.

    """
    made = None if again else _stored(installation, slug, start)
    try:
        if made is None:
            made = _store(installation, slug, start)
        if target is not None and target.resolve() != made.file.resolve():
            _copy(made.file, target)
            made = replace(made, file=target)
    except OSError as error:
        raise BadInput(f"{error.filename or target}: {error.strerror}") from None
    return made


def _stored(installation: Installation, slug: str, start: date | None) -> Document | None:
    """Return the newest document of this agreement that is still there."""
    folder, name = installation.documents(slug), _name(start)
    with installation.store.transaction() as session:
        records.site(session, slug)
        events = [event.data for event in eventlog.all_of(session, slug, MADE) if _is_of(event.data["file"], name)]
    there = [known for known in reversed(events) if (folder / known["file"]).is_file()]
    if not there and not (folder / name).is_file():
        return None
    newest = there[0] if there else {"file": name}
    file = folder / newest["file"]
    newer = newest.get("template") != _template_hash(installation)
    return Document(slug, file, hashlib.sha256(file.read_bytes()).hexdigest(), kept=True, newer_template=newer)


def _store(installation: Installation, slug: str, start: date | None) -> Document:
    """Make the document under a name that nothing has, and record it with its template."""
    template = _template_hash(installation)
    content = pdf(html(installation, slug, start))
    folder, name = installation.documents(slug), Path(_name(start))
    more = (f"{name.stem}_{number}.pdf" for number in count(2))
    file = next(folder / one for one in chain([name.name], more) if not (folder / one).exists())
    file.parent.mkdir(parents=True, exist_ok=True)
    write_private(file, content)
    digest = hashlib.sha256(content).hexdigest()
    with installation.store.transaction() as session:
        agreement = records.agreement(session, records.site(session, slug).key)
        if start is None and agreement.signed_on is None and agreement.handed_over_on is None:
            agreement.handed_over_on = clock.today()
        eventlog.record(session, slug, MADE, file=file.name, sha256=digest, template=template)
    return Document(slug, file, digest)


def _copy(file: Path, target: Path) -> None:
    content = file.read_bytes()
    if target.exists() and target.read_bytes() != content:
        raise BadInput(f"{target} exists, and is another document", "name another file by --to")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_private(target, content)


def _name(start: date | None) -> str:
    return f"convention-{start.isoformat()}.pdf" if start else "convention.pdf"


def _is_of(file: str, name: str) -> bool:
    """Return whether ``file`` is a document called ``name``, or another one beside it: convention_2.pdf."""
    return re.sub(r"_\d+(?=\.pdf$)", "", file) == name


def _folder(installation: Installation) -> Path:
    """Return the folder of the template: the council's own, or ours."""
    own = installation.inventory.resolve(installation.inventory.conventions)
    return own if (own / TEMPLATE).is_file() else render.resources("conventions")


def _template_hash(installation: Installation) -> str:
    return hashlib.sha256((_folder(installation) / TEMPLATE).read_bytes()).hexdigest()


def pdf(page: str) -> bytes:
    """Return ``page`` as a PDF for screen readers and archives: tagged, fonts embedded, nothing fetched from anywhere.

    Raises:
        Unavailable: Pango or the font is missing.

    """
    try:
        from weasyprint import HTML  # type: ignore[import-untyped]
        from weasyprint.urls import URLFetcher  # type: ignore[import-untyped]
    except OSError as error:  # Pango is loaded when weasyprint is imported
        reason = str(error).partition("\n")[0]
        raise Unavailable(f"PDF documents need Pango: {reason}", f"apt-get install {PACKAGES}") from None

    pages = HTML(string=page, url_fetcher=URLFetcher(allowed_protocols=())).render()
    content = bytes(pages.write_pdf(pdf_variant="pdf/ua-1"))
    if not any(font.family.startswith("Linux Libertine") for font in pages.fonts.values()):
        raise Unavailable("PDF documents need the font Linux Libertine", f"apt-get install {PACKAGES}")
    return content
