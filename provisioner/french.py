"""The French that texts are made of: days, numbers and amounts in words, and an article before a name. Pure."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal, TypeAlias

from provisioner.clock import PARIS

NO_BREAK = "\u00a0"
Article: TypeAlias = Literal["le", "la", "l'", "les", "none"]

_WORDS = ("zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix", "onze", "douze")
_VOWELS = frozenset("aàâeéèêëiîïoôuùûyœæh")
_ARTICLES: dict[str, Article] = {
    **dict.fromkeys(("centre", "conseil", "département", "grand", "pays", "pôle", "syndicat", "territoire"), "le"),
    **dict.fromkeys(("collectivité", "commune", "communauté", "mairie", "métropole", "région", "ville"), "la"),
    **dict.fromkeys(("agglomération", "association", "entente", "établissement", "eurométropole", "office"), "l'"),
}
_BEFORE: dict[Article, tuple[str, str, str]] = {
    "le": ("le ", "du ", "au "),
    "la": ("la ", "de la ", "à la "),
    "l'": ("l’", "de l’", "à l’"),
    "les": ("les ", "des ", "aux "),
}


@dataclass(frozen=True)
class Name:
    """A name as a sentence needs it: with its article, contracted with « de » and « à »."""

    text: str
    article: Article

    @property
    def the(self) -> str:
        """Return the name as subject or object: la Commune, l’Agglomération, Échirolles."""
        return _BEFORE.get(self.article, ("", "", ""))[0] + self.text

    @property
    def sentence(self) -> str:
        """Return the name as it begins a sentence: La Commune."""
        return self.the[0].upper() + self.the[1:]

    @property
    def of(self) -> str:
        """Return the name after « de »: de la Commune, du Département, d’Échirolles."""
        if self.article == "none":
            return ("d’" if starts_with_vowel(self.text) else "de ") + self.text
        return _BEFORE[self.article][1] + self.text

    @property
    def to(self) -> str:
        """Return the name after « à »: à la Commune, au Département, à Échirolles."""
        return ("à " if self.article == "none" else _BEFORE[self.article][2]) + self.text


def starts_with_vowel(text: str) -> bool:
    """Return whether « de » and an article are elided before ``text``: a vowel, or an h (mute, as most are)."""
    return text[:1].lower() in _VOWELS


def usual_article(text: str) -> Article:
    """Return the article that goes before a public body's full name, by its first word; none before a place's name."""
    words = text.split()
    return _ARTICLES.get(words[0].lower().rstrip(","), "none") if words else "none"


def in_full(day: date | datetime) -> str:
    """Return a day as French writes it, number and month on one line: 1er mars 2028."""
    if isinstance(day, datetime):
        day = day.astimezone(PARIS).date()
    from babel.dates import format_date

    number = "1er" if day.day == 1 else str(day.day)
    return f"{number}{NO_BREAK}{format_date(day, 'MMMM y', locale='fr')}"


def in_words(number: int) -> str:
    """Return a small number as French writes it in a contract, larger ones in figures."""
    return _WORDS[number] if number < len(_WORDS) else str(number)


def in_years(count: int) -> str:
    """Return a number of years: un an, trois ans."""
    return f"{in_words(count)}{NO_BREAK}an{'s' if count > 1 else ''}"


def euros(amount: Any) -> str:
    """Return an amount as French writes it: 1 234,50 €."""
    from babel.numbers import format_currency

    return format_currency(amount, "EUR", locale="fr_FR")
