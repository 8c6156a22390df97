"""Links in a copy of a site's pages: changed where they are links, all else as it was, however it is made (S8)."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from provisioner.agent import pages

LONG = 2_000_000  # characters: what is looked for again from each beginning would take hours
HOSTILE = [
    "<!--", "<!-- --", "<script>", "<script></script", "<style>url(", "<style>url('", "<style>@import ", "<textarea>",
    "<a b='", '<a b="', "<a ", "<a href=", "<a \"'", "<", "</script>", "<style>url( ", "url(", "<a b = ", "<link rel ",
    "<style>", "<a style='url(", "<a srcset='x, ", "&#", "<img src=x ",
]  # fmt: skip
FILLING = ["x", " ", "\n", "'", '"', "=", "(", "-", "<", "a b "]


def each_address(text: str) -> list[str]:
    """Return the addresses in a page, in their order."""
    found: list[str] = []
    pages._each_link(text, lambda address: found.append(address))
    return found


@pytest.mark.timeout(120)
@pytest.mark.parametrize("piece", HOSTILE)
def test_no_page_is_slow(piece: str) -> None:
    pages._each_link(piece * (LONG // len(piece)), lambda _: None)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("filling", FILLING)
def test_no_filling_is_slow(filling: str) -> None:
    for piece in HOSTILE:
        pages._each_link(piece + filling * (LONG // 20 // len(filling)), lambda _: None)


KEPT = [piece for piece in HOSTILE if "srcset" not in piece]  # of which spaces may change


@example("<a style='url(\"<a style='url(")
@given(st.lists(st.sampled_from([*KEPT, *FILLING, "-->", "</style>", ">", "text"])).map("".join))
def test_what_is_no_link_stays_as_it_is(text: str) -> None:
    assert pages._each_link(text, lambda _: None) == text


def test_links_are_found_and_changed() -> None:
    page = (
        "<!-- <a href='/no'> --><a href='/one'>x</a><IMG SRC=/two srcset='/three 1x, /four 2x'>"
        "<style>a { background: url( '/five' ) } @import \"/six\";</style><script>'<a href=\"/no\">'</script>"
        "<p style='background: url(/seven)'>"
    )
    assert each_address(page) == ["/one", "/two", "/three", "/four", "/five", "/six", "/seven"]
    changed = pages._each_link(page, lambda address: f"{address}/new")
    assert [address.removesuffix("/new") for address in each_address(changed)] == each_address(page)
    assert changed.count("/no") == 2
    assert changed.startswith("<!-- <a href='/no'> -->")


@pytest.mark.parametrize("cut", ["<a href='/one'><script>let x = '/no';", "<a href='/one'><!-- <a href='/no'>"])
def test_what_never_ends_goes_on_to_the_end(cut: str) -> None:
    assert each_address(cut) == ["/one"]
    assert pages._each_link(cut, lambda _: None) == cut
