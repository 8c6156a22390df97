"""Random words where a hacked site has no business, and what must hold of them and of everybody else at any time."""

import hashlib
import os
import secrets
import shutil
import subprocess
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from provisioner.keys import Keys
from provisioner.model.names import LABEL_ROLE, SITE_UID_BASE
from tests.support.engine_view import Seen
from tests.support.hostile_site import CONTENT, HostileSite
from tests.support.town import Town

LASTING = {"database", "edge", "cron", "recorder", "site"}  # roles of what runs when no command does
DISK_MB = 4000  # for all of the town: a site of 40 MB, some generations and copies of it, and the server's own files
LONGEST = 200  # characters of a word
# Of a neighbour's database nothing may change; sessions, options and cron do by themselves.
STILL = ("wp_users", "wp_posts", "wp_postmeta", "wp_terms", "wp_comments")
# The administrator's and the neighbour's accounts, and whoever else may do something on all of the server.
_ACCOUNTS = """
SELECT user, host, priv FROM mysql.global_priv
WHERE user IN ('root', 'mysql', 'mariadb.sys', '{neighbour}', '{neighbour}_reader')
    OR JSON_VALUE(priv, '$.access') > 0 ORDER BY user;
"""
# Its own tables alone: this is the administrator, who must evaluate no view.
_TABLES = """
for database in "$@"; do
    mariadb --no-defaults -N -r -e "SELECT table_name FROM information_schema.tables
        WHERE table_schema = '$database' AND table_type = 'BASE TABLE' AND table_name REGEXP '^[a-z_]+$'
            AND table_name NOT IN ('large', 'held')" |
        xargs mariadb-dump --no-defaults --force --compact --no-create-info --skip-triggers --skip-lock-tables \
            --single-transaction "$database"
done
"""
_SNAPSHOTS = """
for snapshot in "$@"; do
    restic -r /r --no-cache --no-lock dump "$snapshot" / | tr '\\0' '\\n' | grep -aoF -f /words
done
"""


@dataclass
class Canaries:
    """What lies beside one hostile site of a town, and must be neither read nor changed."""

    town: Town
    hostile: HostileSite
    words: dict[str, str] = field(default_factory=dict)
    _before: dict[str, str] = field(default_factory=dict)
    _uid: int = 0  # of the hostile site
    _searched: set[str] = field(default_factory=set)  # snapshots, and databases of generations that serve no more

    @property
    def outside(self) -> Path:
        """Return the directory of the host that is none of the installation's."""
        return Path(f"/srv/canary-{self.town.namespace}")

    def place(self) -> None:
        """Put a word wherever somebody has something to lose; note what real secrets there are."""
        town, neighbour = self.town, self.hostile.neighbour
        self.words = {
            name: f"canary-{name}-{secrets.token_hex(12)}" for name in ("host", "upload", "post", "state", "sibling")
        }
        self.outside.mkdir()
        (self.outside / "file").write_text(self.words["host"])
        (town.data_root / "sibling").write_text(self.words["sibling"])
        (town.state / "canary").write_text(self.words["state"])
        beside = HostileSite(town, neighbour, "")
        beside.write("uploads/canary.txt", self.words["upload"])
        beside.must('mkdir -p "$1/uploads/$(date +%Y/%m)"', CONTENT)  # WordPress makes it when it is first asked
        beside.must_sql(f"UPDATE wp_posts SET post_content = '{self.words['post']}' WHERE post_name = 'adherer'")
        keys = Keys(town.state)
        self.words |= {
            "password hash": town.sql(f"SELECT user_pass FROM {neighbour}_1.wp_users ORDER BY ID LIMIT 1").strip(),
            "repository key": keys.repository(self.hostile.slug),
            "neighbour's repository key": keys.repository(neighbour),
            "secret key": (town.state / "secret.key").read_text().strip(),
            "edge key": next(town.data_root.glob("edge/conf/*/certificates/*.key")).read_text().splitlines()[1],
        }
        (town.folder / "words").write_text("\n".join(self.words.values()) + "\n")
        self._uid = self.hostile.media.lstat().st_uid
        self._before = self._fingerprints()

    def remove(self) -> None:
        """Remove what lies outside of the town."""
        shutil.rmtree(self.outside, ignore_errors=True)

    def _fingerprints(self) -> dict[str, str]:
        """Return what may not change."""
        town, neighbour = self.town, self.hostile.neighbour
        tables = ", ".join(f"{neighbour}_1.{table}" for table in STILL)
        site = town.data_root / "sites" / neighbour
        return {
            "host": _tree(self.outside),
            "neighbour's media": _tree(site / "media"),
            "neighbour's code": _tree(site / "generations/1/content"),
            "neighbour's secrets": _tree(site / "secrets"),
            "neighbour's pointer": os.readlink(town.data_root / "run/sites" / neighbour / "current"),
            "neighbour's tables and the server's accounts": town.sql(
                _ACCOUNTS.format(neighbour=f"{neighbour}_1") + f"CHECKSUM TABLE {tables}"
            ),
            "sibling": (town.data_root / "sibling").read_text(),
            "state": (town.state / "canary").read_text(),
        }

    # After each operation

    def problems(self, said: str, exports: Path, seen: Sequence[Seen]) -> Iterator[str]:
        """Yield what does not hold after a command that ``said`` something, exported to a folder, and ran ``seen``."""
        yield from (f"changed: {name}" for name in self._changed())
        yield from (f"of the site's user: {path}" for path in self._planted())
        yield from (f"read: {name}" for name in self._read(said, exports))
        yield from (f"mounted: {what}" for what in sorted(set(self._mounted(seen))))
        yield from (f"without limits: {one.name}" for one in seen if not one.limited and one.uid >= SITE_UID_BASE)
        yield from (f"shown by the engine: {name}" for name, word in self.words.items() if word in _shown(seen))
        yield from (f"left: {name}" for name in self._left())
        yield from self._disk()
        yield from self._neighbour()

    def _changed(self) -> list[str]:
        now = self._fingerprints()
        return [name for name, mark in self._before.items() if now[name] != mark]

    def _planted(self) -> list[str]:
        """Return what the hostile site's user owns outside of its own directories, or in those that root fills."""
        uid, slug, root = str(self._uid), self.hostile.slug, self.town.data_root
        own = [root / "sites" / slug, root / "run/sites" / slug]
        skipped = [part for path in own for part in ("-path", str(path), "-prune", "-o")]
        owned = _lines("find", str(root), str(self.outside), *skipped, "-uid", uid, "-print")
        return owned + _lines("find", f"{root}/sites/{slug}/secrets", "-uid", uid, "-print")

    def _read(self, said: str, exports: Path) -> list[str]:
        """Return the canaries that the hostile site has in files, tables, snapshots, exports and logs, or was shown."""
        town, words = self.town, str(self.town.folder / "words")
        own = [
            path for kind in ("sites", "run/sites", "logs/sites") for path in self._directories(town.data_root / kind)
        ]
        found = set(_lines("grep", "-rhaoF", "-D", "skip", "--exclude=sparse.bin", "-f", words, *map(str, own)))
        found |= {*self._in_databases(words), *self._in_snapshots(words), *self._in_exports(exports)}
        return sorted(name for name, word in self.words.items() if word in found or word in said)

    def _directories(self, parent: Path) -> list[Path]:
        """Return the directories of the hostile site and of its copies."""
        return [path for path in parent.iterdir() if path.name != self.hostile.neighbour and path.is_dir()]

    def _in_databases(self, words: str) -> list[str]:
        prefix, serving = self.hostile.slug.replace("-", "_"), self.hostile.database
        all_of_them = {name for name in self.town.sql("SHOW DATABASES").split() if name.startswith(f"{prefix}_")}
        wanted = sorted(all_of_them - self._searched | {serving})
        self._searched |= all_of_them
        script = (
            f'docker exec -i {self.town.namespace}.database sh -c "$1" sh "${{@:2}}" 2>/dev/null | grep -aoF -f {words}'
        )
        return _lines("bash", "-c", script, "bash", _TABLES, *wanted)

    def _in_snapshots(self, words: str) -> list[str]:
        folder = self.town.folder / "backups" / self.hostile.slug
        snapshots = {path.name for path in folder.glob("snapshots/*")}
        wanted = sorted(snapshots - self._searched)
        self._searched |= snapshots
        if not wanted:
            return []
        image = self.town.docker().images.list(name="provision/agent")[0].id or ""
        command = [
            "docker", "run", "--rm", "--network", "none", "-e", "RESTIC_PASSWORD", "-v", f"{folder}:/r:ro",
            "-v", f"{words}:/words:ro", "--entrypoint", "bash", image, "-c", _SNAPSHOTS, "bash", *wanted,
        ]  # fmt: skip
        key = {"RESTIC_PASSWORD": Keys(self.town.state).repository(self.hostile.slug)}
        return _lines(*command, environment={"PATH": os.environ["PATH"], **key})

    def _in_exports(self, folder: Path) -> Iterator[str]:
        for path in folder.rglob("*.zip"):
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    with archive.open(name) as member:
                        yield from _words_in(member, self.words.values())

    def _mounted(self, seen: Sequence[Seen]) -> Iterator[str]:
        """Yield what root mounted by way of a link, or below a directory that is not root's."""
        return (f"{one.role}: {problem}" for one in seen for place in one.places for problem in place.strangers)

    def _left(self) -> list[str]:
        """Return what is left running, or lying about, of what should have ended."""
        label: dict[str, str | list[str] | bool] = {"label": f"provision.namespace={self.town.namespace}"}
        client = self.town.docker()
        containers = client.api.containers(all=True, filters=label)
        left = [str(one["Names"][0]) for one in containers if one["Labels"].get(LABEL_ROLE) not in LASTING]
        return left + [f"volume {volume.name}" for volume in client.volumes.list(filters=label)]

    def _disk(self) -> Iterator[str]:
        megabytes = sum(map(int, _lines("find", str(self.town.data_root), "-printf", "%k\\n"))) >> 10
        if megabytes > DISK_MB:
            yield f"the town takes {megabytes} MB"

    def _neighbour(self) -> Iterator[str]:
        upload = self.town.get(self.hostile.neighbour, "/wp-content/uploads/canary.txt")
        page = self.town.get(self.hostile.neighbour)
        if (upload.status, page.status) != (200, 200) or upload.data.decode() != self.words["upload"]:
            yield f"the neighbour's pages: {upload.status}, {page.status}"


def _shown(seen: Sequence[Seen]) -> str:
    return "\n".join(one.shown for one in seen)


def _words_in(stream: IO[bytes], words: Collection[str]) -> Iterator[str]:
    end = b""
    while chunk := stream.read(1 << 20):
        text = end + chunk
        yield from (word for word in words if word.encode() in text)
        end = chunk[-LONGEST:]


def _lines(*command: str, environment: Mapping[str, str] | None = None) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)
    return done.stdout.splitlines()


def _tree(root: Path) -> str:
    """Return a fingerprint of a directory: names, kinds, owners, modes and contents."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        state = path.lstat()
        digest.update(f"{path} {state.st_mode} {state.st_uid} {state.st_size}\n".encode())
        if path.is_file() and not path.is_symlink():
            digest.update(path.read_bytes())
    return digest.hexdigest()
