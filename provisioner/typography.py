r"""French typography of our templates: which spaces never break a line. One rule, applied to every text and page.

After the « Lexique des règles typographiques en usage à l'Imprimerie nationale »: a narrow no-break space (U+202F)
before ; ! ?, an ordinary one (U+00A0) before : and inside « », and between what belongs together (n° 3, 15 jours,
article 28, 1er mars). The apostrophe is ’ (U+2019), except in commands to copy. Templates are written with ordinary
spaces; what stands in {{ }} (an association's name, an address) stays as it is.
"""

import re

NARROW, WIDE = "\u202f", "\u00a0"
MONTHS = "janvier|février|mars|avril|mai|juin|juillet|août|septembre|octobre|novembre|décembre"
_SPACES = "[ \u00a0\u202f]+"
_AT_END = r"""(?=\s|$|[)»"<])"""
_RULES = (
    (re.compile(rf"{_SPACES}([;!?]){_AT_END}"), rf"{NARROW}\1"),
    (re.compile(rf"{_SPACES}:{_AT_END}"), f"{WIDE}:"),
    (re.compile(rf"«{_SPACES}"), f"«{WIDE}"),
    (re.compile(rf"{_SPACES}»"), f"{WIDE}»"),
    (re.compile(r"(?<=[^\W\d_])'(?=[^\W\d_])"), "’"),
    (re.compile(rf"\b([nN]°){_SPACES}"), rf"\1{WIDE}"),
    (re.compile(rf"\b([aA]rticles?|[lL]igne|[pP]age){_SPACES}(?=\d)"), rf"\1{WIDE}"),
    (re.compile(rf"\(UE\){_SPACES}(?=\d)"), f"(UE){WIDE}"),
    (re.compile(rf"(?<=\d){_SPACES}(?=000\b)"), NARROW),
    (re.compile(rf"(?:(?<=\d)|\A){_SPACES}(?=(?:ans?|euros?|heures?|jours?|minutes?|mois|€|%)(?:\W|$))"), WIDE),
    (re.compile(rf"\b(1er|\d\d?){_SPACES}(?=(?:{MONTHS})\b)"), rf"\1{WIDE}"),
)
_JINJA = r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}"
_MARKUP = rf"<!--.*?-->|<style\b.*?</style>|<(?:{_JINJA}|[^<>])*>"
_KEPT = {False: re.compile(_JINJA, re.DOTALL), True: re.compile(f"{_JINJA}|{_MARKUP}", re.DOTALL)}


def typeset(template: str, *, html: bool) -> str:
    """Return a French ``template`` with its spaces and apostrophes set right; Jinja, tags and styles stay."""
    done, position = [], 0
    for kept in _KEPT[html].finditer(template):
        done += [_prose(template[position : kept.start()], html), kept[0]]
        position = kept.end()
    return "".join([*done, _prose(template[position:], html)])


def _prose(text: str, html: bool) -> str:
    if html:
        text = text.replace("&nbsp;", WIDE)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text
