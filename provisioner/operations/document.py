"""`provision agreement document`: the agreement to be signed, from a template that the legal service edits."""

import hashlib
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from provisioner import clock, eventlog, records, render
from provisioner.errors import BadInput, Unavailable
from provisioner.french import euros, in_full, in_words
from provisioner.installation import Installation
from provisioner.keys import write_private

TEMPLATE = "convention.html.j2"
PACKAGES = "libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 fonts-linuxlibertine"


@dataclass(frozen=True)
class Document:
    """The document that was made."""

    slug: str
    file: Path
    sha256: str


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
    own = inventory.resolve(inventory.conventions)
    folder = own if (own / TEMPLATE).is_file() else render.resources("conventions")
    own_name = None if site.host_name == f"{slug}.{inventory.domain}" else site.host_name
    return render.own_html(
        folder,
        TEMPLATE,
        association=site,
        council=inventory.council,
        administrators=administrators,
        agreement=agreement,
        terms=records.agreement_terms(agreement),
        aid=inventory.policy.aid,
        url=installation.url(site.host_name, site.host),
        own_name=own_name,
        in_full=in_full,
        in_words=in_words,
        euros=euros,
        made_on=clock.today(),
    )


def make(installation: Installation, slug: str, target: Path | None, start: date | None = None) -> Document:
    """Write the agreement as a tagged PDF to ``target``, or to its place below the inventory's ``conventions``.

    An agreement that is not signed yet awaits its signature from now on; one to follow, from ``start`` on, is on record
    once it is signed.

    Raises:
        BadInput: no such site, a fault in the template, or a target that cannot be written.
        Unavailable: Pango or the font is missing.

    """
    content = pdf(html(installation, slug, start))
    name = f"convention-{start.isoformat()}.pdf" if start else "convention.pdf"
    file = target or installation.documents(slug) / name
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_private(file, content)
    except OSError as error:
        raise BadInput(f"{file}: {error.strerror}") from None
    digest = hashlib.sha256(content).hexdigest()
    with installation.store.transaction() as session:
        agreement = records.agreement(session, records.site(session, slug).key)
        if start is None and agreement.signed_on is None and agreement.handed_over_on is None:
            agreement.handed_over_on = clock.today()
        eventlog.record(session, slug, "agreement document made", file=file.name, sha256=digest)
    return Document(slug, file, digest)


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
