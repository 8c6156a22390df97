"""What a rehearsal takes for a difference, and what for the new version's own doing."""

from typing import Any

import pytest

from provisioner.agent import rehearsal

BEFORE = """<html><head><title>Kayane</title><meta name="generator" content="WordPress 6.1">
<link rel="stylesheet" href="/wp-includes/css/a.css?ver=6.1"><script>var x = "mots";</script></head>
<body><h1>Bienvenue</h1><p>Nous aidons les élèves du collège, le mercredi et le samedi.</p></body></html>"""


def page(text: str, status: int = 200, location: str = "") -> Any:
    return rehearsal.read(status, "text/html; charset=UTF-8", text, location)


def found(after: Any, path: str = "/accueil/") -> list[str]:
    return list(rehearsal.differences(path, page(BEFORE), after))


def test_generator_versions_and_scripts_are_no_difference() -> None:
    text = BEFORE.replace("6.1", "6.8").replace('"mots"', '"autres mots"')
    assert found(page(text)) == []


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (page(BEFORE, 500), "status 500 instead of 200"),
        (page(BEFORE, 302, "/wp-admin/install.php"), "status 302"),
        (page(""), "is blank"),
        (page(BEFORE.replace("<title>Kayane", "<title>Page non trouvée")), "its title is 'Page non trouvée'"),
        (page(BEFORE.replace("Nous aidons les élèves du collège,", "")), "6 of 12 words are gone"),
        (page(BEFORE + "<p>WordPress database error</p>"), "shows an error of the database"),
        (page(BEFORE + "<b>Warning</b>: Undefined variable"), "shows an error of PHP"),
        (page(BEFORE + "Il y a eu une erreur critique sur ce site."), "WordPress's own failure page"),
        (page("Briefly unavailable for scheduled maintenance."), "maintenance page"),
    ],
)
def test_what_a_reader_would_meet_is_found(after: Any, said: str) -> None:
    assert any(said in difference for difference in found(after)), found(after)


def test_an_error_that_was_there_before_is_no_difference() -> None:
    broken = page(BEFORE + "<b>Warning</b>: Undefined variable")
    assert rehearsal.differences("/", broken, broken) == []


def test_what_the_new_version_mends_is_no_difference() -> None:
    assert rehearsal.differences("/", page(BEFORE, 500), page(BEFORE)) == []


def test_core_s_own_pages_may_be_worded_anew_but_not_shrink() -> None:
    before = page("<html><body>" + "Se connecter " * 50 + "</body></html>")
    anew = page("<html><body>" + "Connexion " * 60 + "</body></html>")
    assert rehearsal.differences("/wp-login.php", before, anew) == []
    shrunk = page("<html><body>Connexion</body></html>")
    assert "shrank" in rehearsal.differences("/wp-login.php", before, shrunk)[0]


def test_a_redirect_may_not_lead_elsewhere() -> None:
    before, after = page("", 302, "https://kayane.test/a/"), page("", 302, "https://kayane.test/b/")
    assert rehearsal.differences("/x/", before, after) == [
        "/x/: leads to https://kayane.test/b/ instead of https://kayane.test/a/"
    ]
    assert rehearsal.differences("/x/", before, page("", 302, "/a/")) == []
