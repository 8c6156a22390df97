"""What is wrong with the typography of a French text: an oracle of its own, which knows none of provisioner's rules."""

import re
from collections.abc import Iterable
from html.parser import HTMLParser

NARROW, WIDE = "\u202f", "\u00a0"
_MONTHS = "janvier|février|mars|avril|mai|juin|juillet|août|septembre|octobre|novembre|décembre"
_FAULTS = {
    "no narrow no-break space (U+202F) before ; ! ?": r"(?<!\u202f)(?<![?!])[;?!](?=[\s)»]|$)",
    "no no-break space (U+00A0) before :": r"(?<!\u00a0):(?=\s|$)",
    "an ordinary space after «": r"«(?!\u00a0)",
    "an ordinary space before »": r"(?<!\u00a0)»",
    "a straight apostrophe": r"(?<=\w)'|'(?=\w)",
    "a straight quotation mark": r'"',
    "two spaces": r"(?<=\S)[ \u00a0\u202f]{2,}(?=\S)",
    "a space before a comma, a full stop or a closing bracket": r"[ \u00a0\u202f][,.)\]](?=\s|$)",
    "a space after an opening bracket": r"[(\[]\s",
    "a middle dot": r"[·•]",
    "three dots": r"\.\.",
    "a date in figures": r"\b\d{4}-\d\d-\d\d\b|\b\d\d?/\d\d?/\d{2,4}\b",
    "a first day that is no 1er": rf"\b1\s(?:{_MONTHS})\b",
    "a day that may be cut from its month": rf"(?:1er|\d) (?:{_MONTHS})\b",
    "a number cut from what it counts": r"\d (?:(?:ans?|euros?|heures?|jours?|minutes?|mois|€|%)(?!\w)|000\b)",
    "an abbreviation that may be cut from its number": r"\b(?:[nN]°|[aA]rticles?) \d|n° ",
    "a familiar form": r"\b(?:[tT]u|[tT]oi|[tT]es|[tT]on|[tT]a)\b",
    "an article that is not contracted": r"\b(?:de|à) les? (?=[A-ZÉÈ])",
    "something that is no text": r"\{\{|\{%|\bNone\b|\bTrue\b|\bFalse\b|<|Undefined",
    "a sentence that begins small": r"[a-zàéè][.?!] [a-zàéè]",
}
_CHECKS = {what: re.compile(pattern) for what, pattern in _FAULTS.items()}


def faults(text: str, names: Iterable[str] = ()) -> list[str]:
    """Return each fault of ``text`` with its surroundings; ``names`` are not ours to correct."""
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, "Nom")
    text = re.sub(r"https?://\S+", "Adresse", text)
    return [
        f"{what}: …{text[max(0, hit.start() - 30) : hit.end() + 30]!r}…"
        for what, pattern in _CHECKS.items()
        for hit in pattern.finditer(text)
    ]


class Visible(HTMLParser):
    """The text of a page, block by block, with what assistive technology reads out."""

    INLINE = ("a", "b", "em", "i", "mark", "small", "span", "strong", "sup", "sub")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self._hidden = "", 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in ("style", "script")
        if tag not in self.INLINE:
            self.text += "\n"
        self.text += "".join(f"\n{value}\n" for name, value in attrs if name in ("alt", "title", "aria-label"))

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("style", "script")
        if tag not in self.INLINE:
            self.text += "\n"

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += re.sub(r"[ \n\t]+", " ", data)


def visible(page: str) -> str:
    """Return what a reader sees of an HTML page, a line for each block."""
    lines = (line.strip(" ") for line in Visible(page).text.split("\n"))
    return "\n".join(line for line in lines if line)
