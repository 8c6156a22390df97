"""A visitor who reads all the time, and authors who write by every door: what happens to each while a site changes."""

import http.client
import os
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

import urllib3

from tests.town import Town

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


@dataclass
class Traffic:
    """Readers and writers at work for as long as a block runs."""

    town: Town
    slug: str
    pause: float = 0.3  # seconds between two requests of each: seven that never rest leave the site's host no time
    failed_reads: list[str] = field(default_factory=list)
    reads: int = 0
    accepted: set[str] = field(default_factory=set)
    refused: list[tuple[str, int, str, str]] = field(default_factory=list)  # door, status, Retry-After, body

    def __post_init__(self) -> None:
        self._over = threading.Event()
        doors: dict[str, Callable[[str], urllib3.BaseHTTPResponse]] = {
            "form": lambda note: self._post("/", note),
            "get": lambda note: self.town.get(self.slug, f"/?note={note}"),
            "rest": lambda note: self._post("/wp-json/portes/v1/note", note),
            "override": lambda note: self._post("/wp-json/portes/v1/note?_method=PUT", note),
            "ajax": lambda note: self._post("/wp-admin/admin-ajax.php?action=note", note),
        }
        self._threads = [
            threading.Thread(target=self._read, args=(["/", "/agenda/", "/mentions-legales/"],)),
            threading.Thread(target=self._read, args=(["/?nocache={}", "/actualites/?nocache={}"],)),
            *(threading.Thread(target=self._write, args=(name, door)) for name, door in doors.items()),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(90)

    def _read(self, paths: list[str]) -> None:
        while not self._over.is_set():
            path = paths[self.reads % len(paths)].format(time.time_ns())
            try:
                answer = self.town.get(self.slug, path)
                if answer.status != 200 or b"</html>" not in answer.data:
                    self.failed_reads.append(f"{path}: {answer.status}")
            except urllib3.exceptions.HTTPError as error:
                self.failed_reads.append(f"{path}: {error}")
            self.reads += 1
            time.sleep(self.pause)

    def _write(self, name: str, door: Callable[[str], urllib3.BaseHTTPResponse]) -> None:
        while not self._over.is_set():
            note = f"{name}-{secrets.token_hex(8)}"
            answer = door(note)
            body = answer.data.decode(errors="replace")
            if answer.status == 200 and body == "noted":
                self.accepted.add(note)
            else:
                self.refused.append((name, answer.status, answer.headers.get("Retry-After", ""), body))
            time.sleep(self.pause)

    def _post(self, path: str, note: str) -> urllib3.BaseHTTPResponse:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        name = f"{self.slug}.assos.localhost"
        return self.town.request("POST", path=path, name=name, headers=headers, body=urlencode({"note": note}).encode())

    def check(self, number: int) -> None:
        """Check that nothing was lost in silence: neither a read nor a write that was accepted."""
        assert self.failed_reads == []
        assert self.reads > 20
        kept = set(self.town.sql(f"SELECT note FROM {self.slug.replace('-', '_')}_{number}.wp_portes").split())
        assert self.accepted - kept == set()
        for door, status, retry, body in self.refused:
            assert (status, retry) == (503, "10"), (door, status, body)
            assert ("rien n’a été enregistré" in body) or ("n’a pas été enregistré" in body), (door, body)
            if door in ("rest", "override", "ajax"):
                assert body.startswith('{"success":false')


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
