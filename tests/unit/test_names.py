"""Slugs and the names that derive from them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.associations import ContactSpec
from provisioner.model.names import DATA_ROOT_LENGTH, SLUG_LENGTH, GenerationNames, slug_problem
from provisioner.records import logins

SLUGS = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,8}){0,3}", fullmatch=True).filter(lambda s: not slug_problem(s))


@given(SLUGS, SLUGS, st.integers(1, 999), st.integers(1, 999))
def test_two_generations_never_share_a_name(one: str, other: str, n: int, m: int) -> None:
    first, second = GenerationNames("test", one, n), GenerationNames("test", other, m)
    if (one, n) != (other, m):
        assert first.container != second.container
        assert first.database != second.database
        assert first.directory != second.directory
        assert first.socket_directory != second.socket_directory


@given(SLUGS)
def test_socket_paths_fit_into_the_kernels_limit(slug: str) -> None:
    """Paths of unix sockets over 107 bytes fail (DESIGN, facts)."""
    longest = "x" * DATA_ROOT_LENGTH + "/" + GenerationNames("test", slug[:SLUG_LENGTH], 1).socket_parent
    assert len(f"{longest}/current/http.sock") <= 107


@given(st.text(max_size=60))
def test_what_is_taken_as_a_slug_is_plain(text: str) -> None:
    if slug_problem(text) is None:
        assert text.isascii()
        assert text == text.lower()
        assert text.replace("-", "").isalnum()
        assert 1 <= len(text) <= SLUG_LENGTH


@pytest.mark.parametrize("slug", ["kayane", "reg-art", "a", "club-2000", "x" * SLUG_LENGTH])
def test_ordinary_slugs_are_taken(slug: str) -> None:
    assert slug_problem(slug) is None


@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=8))
def test_logins_are_plain_and_distinct(names: list[str]) -> None:
    people = tuple(
        ContactSpec.model_construct(name=name, mail=f"p{n}@example.org", administrator=True)
        for n, name in enumerate(names)
    )
    found = logins(people)
    assert len(set(found)) == len(names)
    assert all(login.isascii() and login.replace("-", "").isalnum() for login in found)
