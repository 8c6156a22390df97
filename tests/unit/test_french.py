"""The words and the typography that texts are made of: rules, and every French text that we write (issue: Texts).

Three councils (le, la, l') and three associations; what they are called is theirs and stays as it is.
"""

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from provisioner import kit, render
from provisioner.french import Name, euros, in_full, in_words, in_years, usual_article
from provisioner.inventory import Council
from provisioner.typography import NARROW, WIDE, typeset
from tests.support.texts import COUNCILS, EACH_PAIR, WHEN, Pair, inventory_of
from tests.support.typography import faults, visible

TEMPLATES = Path("templates")


@EACH_PAIR
def test_a_page_of_the_kit_is_french(pair: Pair) -> None:
    made = kit.rendered(pair.site, inventory_of(pair.council), "https://kayane.example.test")
    labels = re.findall(r'"(?:label|ariaLabel)":"([^"]*)"', made["navigation"] + made["footer"])
    texts = [page["title"] for page in made["pages"]] + [post["title"] for post in made["posts"]] + labels
    texts += [category["name"] for category in made["categories"]] + [kit.tagline(pair.site.profile)]
    texts += [visible(part["content"]) for part in (*made["pages"], *made["posts"])]
    assert len(labels) > 10
    for text in texts:
        assert faults(text, pair.names) == []


@pytest.mark.parametrize("council", COUNCILS.values(), ids=COUNCILS)
@pytest.mark.parametrize("page", ["throttled", "unavailable", "unknown"])
def test_a_page_of_the_edge_is_french(council: Council, page: str) -> None:
    text = visible(render.html(f"edge/{page}.html.j2", council=council))
    assert f"à {council.name}" not in text
    assert faults(text, [council.name, council.mail, council.telephone]) == []


@pytest.mark.parametrize("council", COUNCILS.values(), ids=COUNCILS)
def test_a_page_of_the_gate_is_french(council: Council) -> None:
    """The gate's pages are filled in by PHP, as here; its sentences for programs stand in the code."""
    said = {"council": council.in_sentence.the, "mail": council.mail, "until": in_full(date(2029, 3, 1))}
    for name in ("closed", "frozen"):
        page = (TEMPLATES / f"images/site/{name}.html").read_text(encoding="utf-8")
        for key, value in said.items():
            page = page.replace(f"{{{key}}}", value)
        assert faults(visible(page), [council.name, council.mail]) == []


@pytest.mark.parametrize("file", ["gate.php", "mu-plugins/provision.php", "mu-plugins/activity.php"])
def test_a_sentence_of_the_image_is_french(file: str) -> None:
    """String constants that hold a French sentence: they begin with a capital, hold a space and an accent."""
    code = (TEMPLATES / "images/site" / file).read_text(encoding="utf-8")
    code = re.sub(r"^\s*//.*$", "", code, flags=re.MULTILINE)
    sentences = [
        re.sub(r"<[^>]*>", "", text) for _, text in re.findall(r"(['\"])((?:(?!\1)[^\\\n]|\\.)*)\1", code)
        if re.search(r"[éèàç’ ] ?", text) and re.search(r"[A-ZÉ]\w+ \w+", text)
    ]  # fmt: skip
    headers = re.findall(r"^ \* (?:Plugin Name|Description): (.*)$", code, flags=re.MULTILINE)
    found = [text for text in (*sentences, *headers) if re.search(r"[éèàç’]", text)]
    assert found
    for text in found:
        assert faults(re.sub(r"\$\w+(\[\w+\])?", "X", text)) == []


def test_what_completes_the_translation_of_wordpress_is_french() -> None:
    words = json.loads((TEMPLATES / "images/site/visitor-fr.json").read_text(encoding="utf-8"))
    assert len(words) > 100
    assert {text: found for text in words.values() if (found := faults(visible(text)))} == {}


@EACH_PAIR
@pytest.mark.parametrize("own_name", [False, True], ids=["ours", "own"])
def test_the_texts_of_an_export_are_french(pair: Pair, own_name: bool) -> None:
    given = {
        "site": pair.site,
        "council": pair.council,
        "url": f"https://{pair.site.host_name}",
        "domain": "other.test" if own_name else "example.test",
        "day": in_full(WHEN),
        "copied": {"pages": 12, "pages_left_out": 3},
        "administrators": 2,
        "generation": {"wordpress": "6.8.3", "php": "8.4"},
    }
    for name in ("readme", "domain"):
        text = render.text(f"export/{name}.txt.j2", **given)
        commands = r"^ {7}\S.*$|^ {29}\S.*$"  # to be copied as they are
        for command in re.findall(commands, text, flags=re.MULTILINE):
            assert not re.search(f"[{NARROW}{WIDE}’]", command), command
        prose = re.sub(commands, "", text, flags=re.MULTILINE)
        prose = re.sub(r"(?<=\S) {2,}(?=\S)", "\n", prose)  # columns
        assert faults(re.sub(r"\n(?=[a-zà(])", " ", prose), [*pair.names, *READ_ON_SCREEN]) == []


READ_ON_SCREEN = ("« put your unique phrase here »",)


@pytest.mark.parametrize(
    ("name", "article", "the", "of", "to"),
    [
        ("Commune", None, "la Commune", "de la Commune", "à la Commune"),
        (
            "Département du Rivage",
            None,
            "le Département du Rivage",
            "du Département du Rivage",
            "au Département du Rivage",
        ),
        ("Agglomération", None, "l’Agglomération", "de l’Agglomération", "à l’Agglomération"),
        ("Échirolles", None, "Échirolles", "d’Échirolles", "à Échirolles"),
        ("Rives", None, "Rives", "de Rives", "à Rives"),
        ("Rives", "les", "les Rives", "des Rives", "aux Rives"),
        ("Ville d'Aval", "none", "Ville d'Aval", "de Ville d'Aval", "à Ville d'Aval"),
        ("Havre", "le", "le Havre", "du Havre", "au Havre"),
    ],
)
def test_a_name_stands_with_its_article(name: str, article: Any, the: str, of: str, to: str) -> None:
    said = Council(name=name, article=article, address="1 place", telephone="0", mail="a@example.org").in_sentence
    assert (said.the, said.of, said.to) == (the, of, to)
    assert said.sentence == the[0].upper() + the[1:]


def test_an_article_that_cannot_be_elided_is_refused() -> None:
    with pytest.raises(ValidationError, match="is it le or la"):
        Council(name="Commune", article="l'", address="1 place", telephone="0", mail="a@example.org")


@given(st.text(min_size=1, max_size=30), st.sampled_from(["le", "la", "l'", "les", "none"]))
def test_a_name_is_never_changed_by_its_article(name: str, article: Any) -> None:
    said = Name(name, article)
    assert all(form.endswith(name) for form in (said.the, said.of, said.to))
    assert not re.match(
        r"de les? |à les? |de l’|à l’" if article in ("le", "les") else "du |des |au |aux ", said.of + said.to
    )


@given(st.text(max_size=30))
def test_the_usual_article_is_one_that_the_name_can_bear(name: str) -> None:
    Council(name="x" + name.strip() if not name.strip() else "Commune", article=usual_article("Commune"),
            address="1", telephone="0", mail="a@example.org")  # fmt: skip
    assert usual_article(name) in ("le", "la", "l'", "none")


def test_numbers_and_amounts_are_written_out() -> None:
    assert [in_years(1), in_years(3), in_years(9), in_years(40)] == [
        f"un{WIDE}an",
        f"trois{WIDE}ans",
        f"neuf{WIDE}ans",
        f"40{WIDE}ans",
    ]
    assert (in_words(12), in_words(13)) == ("douze", "13")
    assert euros(1234.5) == f"1{NARROW}234,50{WIDE}€"
    assert in_full(date(2028, 3, 1)) == f"1er{WIDE}mars 2028"


@pytest.mark.parametrize(
    ("written", "set_"),
    [
        ("Une question ? Oui ; non !", f"Une question{NARROW}? Oui{NARROW}; non{NARROW}!"),
        (
            "Voici : « {{ name }} » : {{ x }} ?",
            f"Voici{WIDE}: «{WIDE}{{{{ name }}}}{WIDE}»{WIDE}: {{{{ x }}}}{NARROW}?",
        ),
        (
            "l'article 28, n° 3, 15 jours, 23 000 €",
            f"l’article{WIDE}28, n°{WIDE}3, 15{WIDE}jours, 23{NARROW}000{WIDE}€",
        ),
        ("{{ days }} jours, {{ months }} mois", f"{{{{ days }}}}{WIDE}jours, {{{{ months }}}}{WIDE}mois"),
        ("le règlement (UE) 2016/679", f"le règlement (UE){WIDE}2016/679"),
        ("le 31 décembre 2021", f"le 31{WIDE}décembre 2021"),
        (
            "{% if a : b ? c %}{{ 'a ? b' if x else 'd' }}{# e ? #}",
            "{% if a : b ? c %}{{ 'a ? b' if x else 'd' }}{# e ? #}",
        ),
        (
            "RewriteCond %{REQUEST_FILENAME} !-f https://a.test ' x '",
            "RewriteCond %{REQUEST_FILENAME} !-f https://a.test ' x '",
        ),
    ],
)
def test_what_a_text_becomes(written: str, set_: str) -> None:
    assert typeset(written, html=False) == set_


def test_markup_stays_as_it_is() -> None:
    kept = '<style>a :hover { x: y }</style><!-- wp:x {"a" : 1} --><p title="a : b" {{ "a > b ?" }} data-x=\'l\'a\'>'
    assert typeset(kept + "a&nbsp;: b ?</p>", html=True) == f"{kept}a{WIDE}: b{NARROW}?</p>"


@given(st.text(alphabet="aé1 «»:;!?'\n\u00a0\u202f{}%<>", max_size=60), st.booleans())
def test_typography_changes_nothing_but_spaces_and_apostrophes_and_is_done_at_once(text: str, html: bool) -> None:
    done = typeset(text, html=html)
    assert typeset(done, html=html) == done
    assert re.sub("[ \u00a0\u202f]", "", done).replace("’", "'") == re.sub("[ \u00a0\u202f]", "", text)


@pytest.mark.parametrize(
    "text",
    [
        *("Quoi ?", "Quoi?", "Voici :", "Voici:", "« a »", "l'a", 'un "mot"', "a  b", "a , b", "lu·e", "2028-03-01"),
        *("le 1 mars", "le 3 mars", "15 jours", "n° 3", "tu lis", "de le Rivage", "{{ a }}", "None", "Fini. et puis"),
    ],
)
def test_the_check_sees_a_fault(text: str) -> None:
    assert faults(text) != []
