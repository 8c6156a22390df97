"""A rehearsal: two twins of one site, the old version and the new one, asked for the same pages and compared.

What the new version explains by itself (generator, asset versions, markup that nobody sees) is no difference: compared
are status, title, the words that a reader sees, the assets that a page names, and what must never be on a page.
"""

import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

from provisioner.agent.faults import Fault
from provisioner.agent.protocol import ComparePages, Comparison, Twin
from provisioner.agent.sockets import SOCKETS, ask_at

FETCHERS = 4  # pages compared at a time: no more of them are held
READY_SECONDS = 30  # until a twin answers for the first time
ANSWER_SECONDS = 60  # of one page, whole
ASSET_SECONDS = 20
LARGEST = 2 << 20  # bytes of one page
ASSETS = 150  # of one page, and of one twin
LOST_WORDS = 0.02  # share of a page's words that may go: labels that the new version words differently
# What core's own pages say is worded anew by each version; there the rest is compared.
WORDED_BY_CORE = re.compile(r"/wp-(?:admin|login|json)|/feed/|[?&]s=")
NEVER = {
    "an error of PHP": re.compile(r"<b>(?:Fatal error|Parse error|Warning|Notice|Deprecated)</b>:|Uncaught \w*Error"),
    "an error of the database": re.compile(
        r"Error establishing a database connection|Erreur lors de la connexion à la base de données"
        r"|WordPress database error|Erreur de la base de données de WordPress"
    ),
    "WordPress's own failure page": re.compile(
        r"There has been a critical error|Il y a eu une erreur critique|Une erreur critique est survenue"
    ),
    "WordPress's maintenance page": re.compile(r"Briefly unavailable for scheduled maintenance"),
}
_SILENT = ("script", "style", "noscript", "template", "svg")


@dataclass
class Page:
    """What one answer shows."""

    status: int
    kind: str
    text: str
    location: str = ""
    title: str = ""
    words: Counter[str] = field(default_factory=Counter)
    assets: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    """Collects what a page shows and names."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self.words: Counter[str] = Counter()
        self.assets: list[str] = []
        self._silent, self._in_title = 0, False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._silent += tag in _SILENT
        self._in_title = tag == "title" and not self._silent
        named = given.get("src") if tag in ("img", "script") else None
        if tag == "link" and "stylesheet" in (given.get("rel") or ""):
            named = given.get("href")
        if named and len(self.assets) < ASSETS:
            self.assets.append(named)

    def handle_endtag(self, tag: str) -> None:
        self._silent = max(0, self._silent - (tag in _SILENT))
        self._in_title = False

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        elif not self._silent:
            self.words.update(data.split())


def read(status: int, kind: str, text: str, location: str = "") -> Page:
    """Return what an answer shows."""
    page = Page(status, kind, text, location)
    if "html" in kind:
        reader = _Reader()
        reader.feed(text)
        page.title, page.words, page.assets = reader.title.strip(), reader.words, reader.assets
    elif "xml" in kind:
        page.words = Counter(re.sub(r"<[^<>]+>", " ", text).split())
    return page


def rehearse(request: ComparePages) -> Comparison:
    """Ask both twins for every page; return the differences, a phrase each, and how many pages were seen.

    Raises:
        Fault: the twin that stays as it is does not answer: there is nothing to compare with.

    """
    twins = [_Twin(request.host, one) for one in (request.baseline, request.upgraded)]
    paths = request.paths
    with ThreadPoolExecutor(2) as pool:
        silent, mute = pool.map(_Twin.silence, twins)
        if silent:
            raise Fault(f"the twin that stays as it is: {silent}")
        if mute:
            return Comparison([mute], 0)
        with ThreadPoolExecutor(FETCHERS) as several:
            compared = several.map(lambda path: differences(path, *(twin.page(path) for twin in twins)), paths)
            found = [difference for of_page in compared for difference in of_page]
        missing, missing_now = pool.map(_Twin.missing_assets, twins)
    found += [f"{asset}: is missing" for asset in sorted(missing_now - missing)]
    return Comparison(found, len(paths))


def differences(path: str, before: Page, after: Page) -> list[str]:
    """Return what a reader of ``path`` would miss or meet in the new version."""
    found = []
    if not before.status or before.status >= 500 > after.status:
        return []  # there is nothing to compare with, or the new version mends it
    if after.status != before.status:
        what = f"status {after.status}" if after.status else after.text  # 0: why there is no answer
        found.append(f"{path}: {what} instead of {before.status}")
    for what, pattern in NEVER.items():
        if pattern.search(after.text) and not pattern.search(before.text):
            found.append(f"{path}: shows {what}")
    if found:
        return found
    if urlsplit(after.location).path != urlsplit(before.location).path:
        found.append(f"{path}: leads to {after.location or 'nowhere'} instead of {before.location or 'nowhere'}")
    if before.text.strip() and not after.text.strip():
        found.append(f"{path}: is blank")
    elif WORDED_BY_CORE.search(path):
        if len(after.text) < len(before.text) / 2:
            found.append(f"{path}: shrank from {len(before.text)} to {len(after.text)} characters")
    else:
        found += _readable(path, before, after)
    return found


def _readable(path: str, before: Page, after: Page) -> list[str]:
    found = []
    if after.title != before.title:
        found.append(f"{path}: its title is {after.title!r} instead of {before.title!r}")
    lost = before.words - after.words
    if lost.total() > max(2, before.words.total() * LOST_WORDS):
        sample = " ".join(list(lost)[:8])
        found.append(f"{path}: {lost.total()} of {before.words.total()} words are gone, such as « {sample} »")
    return found


class _Twin:
    """One twin, asked over its socket."""

    def __init__(self, host: str, twin: Twin) -> None:
        self.host, self.number, self.cookie = host, twin.number, twin.cookie
        self._named: set[str] = set()  # paths of this site's assets that its pages name

    def silence(self) -> str:
        """Wait until the twin answers; return what it does instead, if it does not."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            status, _, said, _ = self._ask("HEAD", "/wp-includes/images/blank.gif", READY_SECONDS)
            if status:
                return ""
            if time.monotonic() > deadline:
                return f"{said}, {READY_SECONDS} s after its start"
            time.sleep(0.1)

    def page(self, path: str) -> Page:
        """Return what lies at ``path``, after taking note of the assets that it names."""
        page = read(*self._ask("GET", path))
        self._named.update(address for asset in page.assets if (address := self._own(asset)) is not None)
        return page

    def _own(self, asset: str) -> str | None:
        try:
            address = urlsplit(urljoin(f"https://{self.host}/", asset))
        except ValueError:
            return None
        return address.path if address.netloc == self.host else None

    def missing_assets(self) -> set[str]:
        """Return the paths of this site's assets that its pages name and that it does not have."""
        chosen = sorted(self._named)[:ASSETS]
        with ThreadPoolExecutor(FETCHERS) as pool:
            statuses = pool.map(lambda path: self._ask("HEAD", path, ASSET_SECONDS)[0], chosen)
        return {path for path, status in zip(chosen, statuses, strict=True) if status >= 400}

    def _ask(self, method: str, path: str, seconds: float = ANSWER_SECONDS) -> tuple[int, str, str, str]:
        headers = {"Host": self.host}
        if path.startswith("/wp-admin/"):  # whoever reads a page is not logged in
            headers["Cookie"] = self.cookie
        place = SOCKETS / str(self.number) / "http.sock"
        try:
            answer = ask_at(place, method, path, headers, most=LARGEST, seconds=seconds)
        except OSError as error:
            return 0, "", f"no answer: {error}", ""
        kind, location = (answer.headers.get(name, "") for name in ("Content-Type", "Location"))
        return answer.status, kind, answer.text, location
