"""A copy of a site's pages that opens from a disk: fetched from the site's own socket, links made relative.

Pages lie in a folder beside wp-content, which holds the media and themes that they show; what they need of
WordPress itself is fetched with them.
"""

import html
import json
import posixpath
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

from provisioner.agent import files
from provisioner.agent.export import PAGES, STAGING, WRITTEN
from provisioner.agent.faults import Fault
from provisioner.agent.protocol import CopiedPages, CopyPages
from provisioner.agent.sockets import TooLong, ask_at

SOCKET = Path("/run/site/http.sock")
MOST = 5000  # pages; the front page and the published ones come first
LARGEST = 16 << 20  # bytes of one page or asset
SECONDS = 60  # for one of them, whole
ALL_BYTES, ALL_SECONDS = 4 << 30, 2 * 3600
# Of WordPress itself pages show only what lies here; wp-content is in the archive already.
_CORE = "/wp-includes/"
_CONTENT = "/wp-content/"
_NO_PAGE = re.compile(r"^/(?:wp-|xmlrpc)|/(?:feed|embed|trackback)/")
# No page makes these slow (tests/unit/test_pages.py): repetitions are possessive, and what begins and never ends goes
# on to the end of the page, as it does for a browser, instead of being looked for again from each beginning.
_IN_TAG = r"(?:[^>\"']++|\"[^\"]*+(?:\"|\Z)|'[^']*+(?:'|\Z))*+"
# Comments, then elements whose text is no markup, then tags.
_PIECE = re.compile(
    r"<!--.*?(?:-->|\Z)"
    rf"|<(script|style|textarea)\b({_IN_TAG})(?:>(.*?)(</\1\s*+>|\Z)|\Z)"
    rf"|<[a-z]{_IN_TAG}(?:>|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_ATTRIBUTE = re.compile(r"(?<![^\s\"'<>/=])([^\s\"'<>/=]++)(\s*+=\s*+)(\"[^\"]*+\"|'[^']*+'|[^\s\"'>]++)")
_URL = re.compile(r"url\(\s*+(\"[^\"]*+\"|'[^']*+'|[^()\s\"']*+)\s*+\)", re.IGNORECASE)
_IMPORT = re.compile(r"(@import\s++)(\"[^\"]*+\"|'[^']*+')", re.IGNORECASE)
_REL = re.compile(r"\brel\s*=\s*[\"']?([^\"'>]+)", re.IGNORECASE)
# They name what only a server answers: interfaces, feeds, other forms of the same page.
_DROPPED_LINKS = frozenset({"alternate", "edituri", "https://api.w.org/", "modulepreload", "pingback", "shortlink",
                            "wlwmanifest"})  # fmt: skip
_LINKS = frozenset({"href", "src", "poster", "data", "data-src"})
# A browser loads no modules from a disk, and has nothing to prefetch there.
_SERVED_SCRIPTS = re.compile(r"\btype\s*=\s*[\"']?(?:module|importmap|speculationrules)", re.IGNORECASE)


class _Site:
    """The site, asked over its socket; what it says in all is bounded too."""

    def __init__(self, host: str) -> None:
        self._host, self._left, self._until = host, ALL_BYTES, time.monotonic() + ALL_SECONDS

    def fetch(self, path: str) -> tuple[str, bytes]:
        """Return type and body of what lies at ``path``; an empty type when it is not there, elsewhere or too large.

        Raises:
            Fault: the site does not answer, or said too much already.

        """
        try:
            answer = ask_at(SOCKET, "GET", path, {"Host": self._host}, most=LARGEST, seconds=SECONDS)
        except TooLong:
            return "", b""
        except OSError as error:
            raise Fault(f"the site does not answer {path}: {error}") from None
        self._left -= len(answer.body)
        if self._left < 0:
            raise Fault(f"its pages have more than {ALL_BYTES >> 30} GiB")
        if time.monotonic() > self._until:
            raise Fault(f"its pages did not come within {ALL_SECONDS // 60} minutes")
        return ("", b"") if answer.status != 200 else (answer.headers.get_content_type(), answer.body)


@dataclass
class _Copy:
    """What was found so far; paths are those of addresses, percent-encoded."""

    url: str  # of the site, without a slash at the end
    pages: dict[str, None] = field(default_factory=dict)  # in the order in which they were found
    left_out: set[str] = field(default_factory=set)
    assets: set[str] = field(default_factory=set)

    def path(self, address: str, page: str) -> str | None:
        """Return the path of an address that ``page`` names, with its query, or None when it is not of this site."""
        try:
            parts = urlsplit(urljoin(f"{self.url}{page}", address))
        except ValueError:
            return None
        own = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or parts.netloc != own.netloc:
            return None
        path = quote(unquote(parts.path or "/"), safe="/-._~")
        if any(part in ("..", ".") for part in unquote(path).split("/")) or "\0" in unquote(path):
            return None
        return path + (f"?{parts.query}" if parts.query else "")

    def want_page(self, path: str) -> bool:
        """Return whether the page at ``path`` is in the copy, after taking note of it."""
        if path in self.pages:
            return True
        if "?" in path or not path.endswith("/") or _NO_PAGE.search(path):
            return False
        if len(self.pages) >= MOST:
            self.left_out.add(path)
            return False
        self.pages[path] = None
        return True


def copy(request: CopyPages) -> CopiedPages:
    """Copy the front page, all published pages and posts, and what they link to, with all that they show.

    Raises:
        Fault: the front page, or more than a tenth of those published, cannot be fetched.

    """
    root = STAGING / PAGES
    shutil.rmtree(root, ignore_errors=True)
    site = _Copy(request.url.rstrip("/"))
    listed = _listed()
    for address in (f"{site.url}/", *listed):
        path = site.path(address, "/")
        if path is not None:
            site.want_page(path)
    wanted = set(site.pages)
    link = _Site(urlsplit(site.url).netloc)
    texts: dict[str, None] = {}
    missing: list[str] = []
    queue = list(site.pages)
    while queue:
        path = queue.pop(0)
        kind, body = link.fetch(path)
        if kind.startswith("text/html"):
            known = len(site.pages)
            _remember(root, path, body)
            texts[path] = None
            _each_link(body.decode(errors="replace"), partial(_look, site, page=path))
            queue += list(site.pages)[known:]
        else:
            missing.append(path)
    lost = [path for path in missing if path in wanted]
    if "/" in lost or len(lost) * 10 > len(wanted):
        raise Fault(f"{len(lost)} of {len(wanted)} pages cannot be fetched, such as {lost[0]}")
    for path in missing:  # links to them name the site in full
        del site.pages[path]
    assets = _fetch_assets(link, root, site)
    for path in texts:
        file = _file(root, path)
        file.write_text(_relative(site, file.read_text(errors="replace"), path, assets))
    return CopiedPages(len(texts), len(site.left_out), lost)


def _remember(root: Path, path: str, body: bytes) -> None:
    file = _file(root, path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(body)


def _file(root: Path, path: str) -> Path:
    """Return where the copy keeps what lies at ``path``."""
    name = unquote(path).strip("/")
    return root / name / "index.html" if path.endswith("/") else root / name


def _look(site: _Copy, address: str, page: str) -> str | None:
    """Take note of what a page links to."""
    path = site.path(html.unescape(address), page)
    if path is not None and not site.want_page(path) and path.startswith(_CORE):
        site.assets.add(path.partition("?")[0])
    return None


def _listed() -> list[str]:
    """Return the addresses that the site's own program listed, in a directory that is the site's to write."""
    try:
        with files.opened(WRITTEN / "pages.json") as file:
            content = file.read(LARGEST + 1)
        listed = json.loads(content) if len(content) <= LARGEST else None
    except (OSError, ValueError, RecursionError) as error:
        raise Fault(f"the site's list of its pages: {error}") from None
    if not isinstance(listed, list) or not all(isinstance(address, str) for address in listed):
        raise Fault("the site's list of its pages is none")
    return listed


def _fetch_assets(link: _Site, root: Path, site: _Copy) -> set[str]:
    """Fetch what pages show of WordPress itself, and what its style sheets show in turn; return what is there."""
    there: set[str] = set()
    queue = sorted(site.assets)
    while queue:
        path = queue.pop()
        kind, body = link.fetch(path)
        if not kind or kind == "text/html":
            continue
        _remember(root, path, body)
        there.add(path)
        if kind == "text/css":
            for address in _styles(body.decode(errors="replace")):
                found = (site.path(address, path) or "").partition("?")[0]
                if found.startswith(_CORE) and found not in site.assets:
                    site.assets.add(found)
                    queue.append(found)
    return there


def _styles(text: str) -> list[str]:
    found: list[str] = []
    _restyled(text, lambda address: found.append(address))
    return found


Change = Callable[[str], str | None]  # an address: what stands instead, or None to leave it


def _restyled(text: str, change: Change) -> str:
    """Return a style sheet with its addresses changed."""

    def one(quoted: str) -> str | None:
        address = quoted.strip("\"'")
        return None if not address or address.startswith(("data:", "#")) else change(address)

    text = _URL.sub(lambda match: match[0] if (new := one(match[1])) is None else f'url("{new}")', text)
    return _IMPORT.sub(lambda match: match[0] if (new := one(match[2])) is None else f'{match[1]}"{new}"', text)


def _each_link(text: str, change: Change) -> str:
    """Return a page with the addresses in its markup changed, all else as it was."""

    def attribute(match: re.Match[str]) -> str:
        name, value = match[1].lower(), html.unescape(match[3].strip("\"'"))
        if name in _LINKS:
            new = change(value)
        elif name in ("srcset", "imagesrcset"):
            new = ", ".join(_candidate(part, change) for part in value.split(", "))
        elif name == "style":
            new = _style(value, change)
        else:
            return match[0]
        return match[0] if new is None or new == value else f'{match[1]}{match[2]}"{html.escape(new)}"'

    def piece(match: re.Match[str]) -> str:
        whole = match[0]
        if whole.startswith("<!--"):
            return whole
        if match[1] and match[3] is not None:
            return _with_text(match, attribute, change)
        if whole[:5].lower() == "<link":
            rel = _REL.search(whole)
            if rel and _DROPPED_LINKS & set(rel[1].lower().split()) and "stylesheet" not in rel[1].lower():
                return ""
        return _ATTRIBUTE.sub(attribute, whole)

    return _PIECE.sub(piece, text)


def _with_text(match: re.Match[str], attribute: Callable[[re.Match[str]], str], change: Change) -> str:
    """Return an element whose text is no markup: a script, a style sheet, a form's text."""
    kind = match[1].lower()
    if kind == "script" and _SERVED_SCRIPTS.search(match[2]):
        return ""
    text = _restyled(match[3], change) if kind == "style" else match[3]
    return f"<{match[1]}{_ATTRIBUTE.sub(attribute, match[2])}>{text}{match[4]}"


def _style(value: str, change: Change) -> str:
    """Return an attribute of style with its addresses changed; its own quotes are to differ from the attribute's."""
    new = _restyled(value, change)
    return value if new == value else new.replace('url("', "url('").replace('")', "')")


def _candidate(part: str, change: Change) -> str:
    address, space, size = part.strip().partition(" ")
    return f"{change(address) or address}{space}{size}"


def _relative(site: _Copy, text: str, page: str, assets: set[str]) -> str:
    """Return a page's text with every address that the archive holds made relative; others name the site in full."""

    def change(address: str) -> str | None:
        if address.startswith(("#", "data:", "mailto:", "tel:", "javascript:")):
            return None
        path = site.path(address, page)
        if path is None:
            return None
        fragment = f"#{address.partition('#')[2]}" if "#" in address else ""
        bare = path.partition("?")[0]
        if bare in site.pages and path == bare:
            return _between(page, f"{bare}index.html") + fragment
        if bare in assets:
            return _between(page, bare) + fragment
        if bare.startswith(_CONTENT) and not bare.endswith("/"):
            return _between(page, f"/..{bare}") + fragment
        return f"{site.url}{path}{fragment}"

    return _each_link(text, change)


def _between(page: str, target: str) -> str:
    """Return how the page at ``page`` names what lies at ``target``; "/.." leads out of the folder of pages."""
    depth = len(unquote(page).strip("/").split("/")) if page.strip("/") else 0
    if target.startswith("/../"):
        return "../" * (depth + 1) + target[4:]
    return posixpath.relpath(target, page)
