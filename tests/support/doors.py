"""Visitors who read all the time, and authors who write by every door: what happens to each while a site changes."""

import http.client
import itertools
import json
import os
import re
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

import urllib3

from tests.support.town import Town

# A plugin of the association's that writes by every door, and says so only of what it has written.
PLUGIN = """<?php
/* Plugin Name: Portes */
function portes_note(): void {
    global $wpdb;
    $written = $wpdb->insert('wp_portes', ['note' => (string) $_REQUEST['note']]);
    status_header($written ? 200 : 500);
    exit($written ? 'noted' : 'not noted');
}
add_action('init', function () {
    $program = wp_doing_ajax() || str_starts_with($_SERVER['REQUEST_URI'], '/wp-json');
    if (isset($_REQUEST['note']) && !$program) { portes_note(); }
});
add_action('wp_ajax_nopriv_note', 'portes_note');
add_action('rest_api_init', function () {
    register_rest_route('portes/v1', '/note', [
        'methods' => ['POST', 'PUT'], 'callback' => 'portes_note', 'permission_callback' => '__return_true',
    ]);
});
// What is edited is noted as well: an edit that got lost would else be hidden by the next one.
add_action('post_updated', function (int $id, WP_Post $post): void {
    $GLOBALS['wpdb']->insert('wp_portes', ['note' => $post->post_title]);
}, 10, 2);
add_filter('comment_flood_filter', '__return_false', PHP_INT_MAX);
"""
TABLE = "CREATE TABLE wp_portes (id INT PRIMARY KEY AUTO_INCREMENT, note VARCHAR(64) UNIQUE)"


def install(town: Town, slug: str, number: int = 1) -> None:
    """Give a site the plugin, active."""
    add_plugin(town, slug, "portes", PLUGIN, number)
    town.sql(f"USE {slug.replace('-', '_')}_{number}; {TABLE}")


def add_plugin(town: Town, slug: str, name: str, source: str, number: int = 1) -> None:
    """Put a plugin into a generation of a site, as its association does, and activate it."""
    folder = town.data_root / "sites" / slug / "generations" / str(number) / "content" / "plugins" / name
    folder.mkdir()
    (folder / f"{name}.php").write_text(source)
    owner = folder.parent.stat().st_uid
    for path in (folder, folder / f"{name}.php"):
        os.chown(path, owner, owner)
    database = f"{slug.replace('-', '_')}_{number}"
    before = town.sql(f"SELECT option_value FROM {database}.wp_options WHERE option_name = 'active_plugins'").strip()
    names = [part.split('"')[0] for part in before.split(':"')[1:]] + [f"{name}/{name}.php"]
    value = f"a:{len(names)}:{{" + "".join(f'i:{n};s:{len(text)}:"{text}";' for n, text in enumerate(names)) + "}"
    town.sql(f"UPDATE {database}.wp_options SET option_value = '{value}' WHERE option_name = 'active_plugins'")


Answer = urllib3.BaseHTTPResponse
Fields = dict[str, str | int]
Door = Callable[[str], tuple[Answer, bool]]  # sends a note; returns the answer, and whether it says that it is kept
PROGRAMS = ("rest", "override", "ajax", "editor-rest", "editor-ajax")  # what is refused here is told as JSON
PASSWORD = "quatre mots de passe"
FORM = "application/x-www-form-urlencoded"


def send(town: Town, slug: str, path: str, fields: Fields, headers: Mapping[str, str] | None = None) -> Answer:
    """Send a form to a site."""
    given = {"Content-Type": FORM, **(headers or {})}
    return town.request("POST", f"{slug}.assos.localhost", path, given, urlencode(fields).encode())


class Editor:
    """An administrator who logged in by WordPress's own form, and edits by the administration's doors, with nonces."""

    def __init__(self, town: Town, slug: str, number: int = 1) -> None:
        self._town, self._slug, self._cookies = town, slug, dict[str, str]()
        # As hashes were in old times, which every WordPress takes and replaces at the first log-in.
        database = f"{slug.replace('-', '_')}_{number}"
        town.sql(f"UPDATE {database}.wp_users SET user_pass = MD5('{PASSWORD}') WHERE user_login = 'presidence'")
        self._keep_cookies(self.get("/wp-login.php"))
        fields: Fields = {"log": "presidence", "pwd": PASSWORD, "testcookie": 1, "redirect_to": "/wp-admin/"}
        answer = self._keep_cookies(self._send("/wp-login.php", fields))
        assert answer.status == 302, answer.data.decode()
        self._nonce = self.get("/wp-admin/admin-ajax.php?action=rest-nonce").data.decode()
        self.posts = {door: self._new_post(door) for door in ("editor-form", "editor-rest", "editor-ajax")}
        self._form_nonce = self._found("_wpnonce", f"/wp-admin/post.php?post={self.posts['editor-form']}&action=edit")
        self._list_nonce = self._found("_inline_edit", "/wp-admin/edit.php")
        self.doors: dict[str, Door] = {
            "editor-form": self._by_form,
            "editor-rest": self._by_rest,
            "editor-ajax": self._by_ajax,
        }

    def get(self, path: str) -> Answer:
        """Fetch a page as who is logged in."""
        return self._town.get(self._slug, path, Cookie=self._cookie)

    @property
    def _cookie(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self._cookies.items())

    def _send(self, path: str, fields: Fields) -> Answer:
        return send(self._town, self._slug, path, fields, {"Cookie": self._cookie})

    def _keep_cookies(self, answer: Answer) -> Answer:
        for line in answer.headers.getlist("Set-Cookie"):
            name, _, rest = line.partition("=")
            self._cookies[name] = rest.partition(";")[0]
        return answer

    def _found(self, name: str, path: str) -> str:
        found = re.search(rf'name="{name}" value="(\w+)"', self.get(path).data.decode())
        assert found is not None, f"{path} has no {name}"
        return found[1]

    def _rest(self, path: str, **fields: str) -> Answer:
        headers = {"Cookie": self._cookie, "X-WP-Nonce": self._nonce, "Content-Type": "application/json"}
        name = f"{self._slug}.assos.localhost"
        return self._town.request("POST", name, f"/wp-json/wp/v2/posts{path}", headers, json.dumps(fields).encode())

    def _new_post(self, title: str) -> int:
        answer = self._rest("", title=title, content="Un texte.", status="publish")
        assert answer.status == 201, answer.data.decode()
        return int(json.loads(answer.data)["id"])

    def _by_rest(self, note: str) -> tuple[Answer, bool]:
        answer = self._rest(f"/{self.posts['editor-rest']}", title=note)
        return answer, answer.status == 200 and json.loads(answer.data)["title"]["raw"] == note

    def _by_form(self, note: str) -> tuple[Answer, bool]:
        number = self.posts["editor-form"]
        fields: Fields = {
            "action": "editpost", "post_ID": number, "post_type": "post", "post_status": "publish",
            "post_title": note, "content": "Un texte.", "_wpnonce": self._form_nonce,
        }  # fmt: skip
        answer = self._send("/wp-admin/post.php", fields)
        return answer, answer.status == 302 and f"post={number}" in answer.headers.get("Location", "")

    def _by_ajax(self, note: str) -> tuple[Answer, bool]:
        fields: Fields = {
            "action": "inline-save", "post_ID": self.posts["editor-ajax"], "post_type": "post", "_status": "publish",
            "post_title": note, "_inline_edit": self._list_nonce, "screen": "edit-post", "post_view": "list",
        }  # fmt: skip
        answer = self._send("/wp-admin/admin-ajax.php", fields)
        return answer, answer.status == 200 and note in answer.data.decode()


PAUSE = 0.3  # seconds between two requests of each: who never rests leaves the site's host no time


class Reader:
    """Somebody who reads pages, one after the other, for as long as a block runs; ``{}`` in a path goes by no cache."""

    def __init__(self, pages: Sequence[str], get: Callable[[str], Answer], pause: float = PAUSE) -> None:
        self.failed: list[str] = []
        self.reads = 0
        self._pages, self._get, self._pause = itertools.cycle(pages), get, pause
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(90)

    def _read(self) -> None:
        while not self._over.is_set():
            page = next(self._pages).format(time.time_ns())
            try:
                answer = self._get(page)
                if answer.status != 200 or b"</html>" not in answer.data:
                    self.failed.append(f"{page}: {answer.status}")
            except urllib3.exceptions.HTTPError as error:
                self.failed.append(f"{page}: {error}")
            self.reads += 1
            time.sleep(self._pause)


class Traffic:
    """Readers and writers at work for as long as a block runs."""

    def __init__(self, town: Town, slug: str, editor: Editor | None = None, pause: float = PAUSE) -> None:
        self.accepted: set[str] = set()
        self.refused: list[tuple[str, int, str, str]] = []  # door, status, Retry-After, body
        self.refusals: list[float] = []  # when
        self._town, self._slug, self._editor, self._pause = town, slug, editor, pause
        self._last: dict[str, str] = {}  # accepted, by door
        self._over = threading.Event()
        self._readers = [
            Reader(["/", "/agenda/", "/mentions-legales/"], lambda page: town.get(slug, page), pause),
            Reader(["/?nocache={}", "/actualites/?nocache={}"], lambda page: town.get(slug, page), pause),
        ]
        doors: dict[str, Door] = {
            "form": lambda note: self._note("/", note),
            "get": lambda note: _noted(town.get(slug, f"/?note={note}")),
            "rest": lambda note: self._note("/wp-json/portes/v1/note", note),
            "override": lambda note: self._note("/wp-json/portes/v1/note?_method=PUT", note),
            "ajax": lambda note: self._note("/wp-admin/admin-ajax.php?action=note", note),
        }
        if editor is not None:
            self._readers.append(Reader(["/?membre={}", "/actualites/?membre={}"], editor.get, pause))
            doors |= {"comment": self._comment, **editor.doors}
        self._writers = [threading.Thread(target=self._write, args=(name, door)) for name, door in doors.items()]

    @property
    def reads(self) -> int:
        return sum(reader.reads for reader in self._readers)

    @property
    def refused_for(self) -> float:
        """Return for how many seconds writes were refused, as who writes sees it."""
        return max(self.refusals) - min(self.refusals) if self.refusals else 0.0

    def __enter__(self) -> Self:
        for reader in self._readers:
            reader.__enter__()
        for thread in self._writers:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for reader in self._readers:
            reader.__exit__(kind, error, trace)
        for thread in self._writers:
            thread.join(90)

    def _write(self, name: str, door: Door) -> None:
        while not self._over.is_set():
            note = f"{name}-{secrets.token_hex(8)}"
            answer, kept = door(note)
            if kept:
                self.accepted.add(note)
                self._last[name] = note
            else:
                body = answer.data.decode(errors="replace")
                self.refused.append((name, answer.status, answer.headers.get("Retry-After", ""), body))
                self.refusals.append(time.monotonic())
            time.sleep(self._pause)

    def _note(self, path: str, note: str) -> tuple[Answer, bool]:
        return _noted(send(self._town, self._slug, path, {"note": note}))

    def _comment(self, note: str) -> tuple[Answer, bool]:
        assert self._editor is not None
        number = self._editor.posts["editor-rest"]
        fields: Fields = {"comment": note, "author": "Visite", "email": "visite@example.org", "comment_post_ID": number}
        answer = send(self._town, self._slug, "/wp-comments-post.php", fields)
        return answer, answer.status == 302

    def check(self, number: int) -> None:
        """Check that nothing was lost in silence: neither a read nor a write that was accepted."""
        assert [failed for reader in self._readers for failed in reader.failed] == []
        assert self.reads > 20
        database = f"{self._slug.replace('-', '_')}_{number}"
        rows = f"SELECT note FROM {database}.wp_portes UNION ALL SELECT comment_content FROM {database}.wp_comments"
        kept = set(self._town.sql(rows).splitlines())
        assert self.accepted - kept == set()
        for door, post in (self._editor.posts if self._editor else {}).items():
            title = self._town.sql(f"SELECT post_title FROM {database}.wp_posts WHERE ID = {post}").strip()
            assert title == self._last[door]
        for door, status, retry, body in self.refused:
            assert (status, retry) == (503, "10"), (door, status, body)
            assert ("rien n’a été enregistré" in body) or ("n’a pas été enregistré" in body), (door, body)
            if door in PROGRAMS:
                assert body.startswith('{"success":false')


def _noted(answer: Answer) -> tuple[Answer, bool]:
    return answer, answer.status == 200 and answer.data == b"noted"


class SlowUpload:
    """A form whose sending began long before it ends, as over a bad line: some bytes at a time."""

    def __init__(self, town: Town, slug: str, note: str) -> None:
        self._body = urlencode({"note": note, "padding": "x" * 400_000}).encode()
        context = ssl.create_default_context(cafile=str(town.root))
        name = f"{slug}.assos.localhost"
        self._link = http.client.HTTPSConnection("127.0.0.1", town.port, timeout=60)
        raw = socket.create_connection(("127.0.0.1", town.port), 60)
        self._link.sock = context.wrap_socket(raw, server_hostname=name)
        self._link.putrequest("POST", "/", skip_host=True)
        for header, value in (
            ("Host", f"{name}:{town.port}"),
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Content-Length", str(len(self._body))),
        ):
            self._link.putheader(header, value)
        self._link.endheaders()
        self._last = threading.Event()
        self._sender = threading.Thread(target=self._send)
        self._sender.start()

    def _send(self) -> None:
        sent = 0
        while not self._last.wait(0.5):
            self._link.send(self._body[sent : sent + 500])
            sent += 500
        self._link.send(self._body[sent:])

    def finish(self) -> tuple[int, str]:
        """Send the rest; return status and body of the answer."""
        self._last.set()
        self._sender.join(60)
        answer = self._link.getresponse()
        return answer.status, answer.read().decode(errors="replace")
