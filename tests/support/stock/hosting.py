"""An ordinary hosting in a container, and the hand of somebody who follows what an export says."""

import hashlib
import re
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.town import Town

HERE = Path(__file__).parent
FOLDER, DATABASE, USER, PASSWORD = "/var/www/html", "association", "association", "chez-l-hebergeur"
READY_SECONDS = 90


def image(town: Town) -> str:
    """Return the hosting's image, built when nothing of its content is cached in the engine."""
    client = town.docker()
    base = sorted(tag for one in client.images.list(name="provision/base") for tag in one.tags if ":trixie-" in tag)[0]
    content = base.encode() + b"".join(path.read_bytes() for path in (HERE / "Dockerfile", HERE / "serve"))
    tag = f"provision/stock-hosting:{hashlib.sha256(content).hexdigest()[:12]}"
    if not client.images.list(name=tag):
        command = ["docker", "build", "--network", "host", "--build-arg", f"BASE={base}", "--tag", tag, str(HERE)]
        subprocess.run(command, check=True, capture_output=True)
    return tag


class Hosting:
    """Apache, PHP, MariaDB and WordPress of Debian; the export lies on its disk, as if sent there by FTP."""

    address = "http://localhost"

    def __init__(self, town: Town, export: Path) -> None:
        self.name = f"{town.namespace}.stock"
        self._image, self._label, self._export = image(town), f"provision.namespace={town.namespace}", export

    def __enter__(self) -> Self:
        """Start it, without a network."""
        subprocess.run(
            ["docker", "run", "-d", "--network", "none", "--name", self.name, "--label", self._label,
             "-v", f"{self._export}:/export:ro", self._image],
            check=True, capture_output=True,
        )  # fmt: skip
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, self._logs()
            time.sleep(0.3)
        self._shell(
            f"mariadb -e \"CREATE DATABASE {DATABASE}; CREATE USER {USER}@localhost IDENTIFIED BY '{PASSWORD}'; "
            f'GRANT ALL ON {DATABASE}.* TO {USER}@localhost"'
        )
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Remove it."""
        subprocess.run(["docker", "rm", "-fv", self.name], check=True, capture_output=True)

    def follow(self, instructions: str) -> None:
        """Do what the numbered steps say: configuration, commands, SQL and .htaccess are taken from the text."""
        lines = [self._filled(line.strip()) for line in instructions.splitlines()]
        self._configure([line for line in lines if line.startswith(("define(", "$table_prefix"))])
        for line in lines:
            if line.startswith("$ "):
                self._shell(f"cd /export && {line[2:]}")
        statements = [line for line in lines if line.startswith("UPDATE ")]
        assert len(statements) == 3
        self._shell(f"mariadb {DATABASE}", "\n".join(statements))
        begin, end = lines.index("<IfModule mod_rewrite.c>"), lines.index("</IfModule>")
        self._write(".htaccess", "\n".join(lines[begin : end + 1]) + "\n")
        self._shell(f"chown -R www-data: {FOLDER}")

    def _configure(self, settings: list[str]) -> None:
        text = self._shell(f"cat {FOLDER}/wp-config-sample.php")
        for setting in settings:
            name = re.split(r"['=]", setting)[1 if setting.startswith("define") else 0].strip()
            pattern = re.escape(name) if name.startswith("$") else rf"define\( '{name}'"
            text, count = re.subn(rf"(?m)^{pattern}.*$", lambda _match, new=setting: new, text)  # type: ignore[misc]
            assert count == 1, setting
        salts = iter(range(8))
        text = re.sub("put your unique phrase here", lambda _match: f"{next(salts)}-{time.time_ns()}", text)
        self._write("wp-config.php", text)

    def get(self, path: str) -> str:
        """Return a page, which must be there."""
        return self._shell(f"curl -sS --fail --globoff '{self.address}{path}'")

    def sha256(self, path: str) -> str:
        """Return the hash of what Apache serves."""
        return self._shell(f"curl -sS --fail '{self.address}{path}' | sha256sum").split()[0]

    def log_in(self, login: str, password: str, path: str) -> str:
        """Log in by WordPress's own form and return a page of the administration."""
        return self._shell(
            f"curl -sS --fail -L -c /tmp/jar -b 'wordpress_test_cookie=WP%20Cookie%20check' -b /tmp/jar -o /tmp/out "
            f"--data-urlencode 'log={login}' --data-urlencode 'pwd={password}' -d testcookie=1 "
            f"{self.address}/wp-login.php; curl -sS --fail -b /tmp/jar {self.address}{path}"
        )

    def rows(self, query: str) -> list[list[str]]:
        """Return rows of its database."""
        lines = self._shell(f"mariadb -N -B --default-character-set=utf8mb4 {DATABASE}", query).splitlines()
        return [line.split("\t") for line in lines]

    def _filled(self, line: str) -> str:
        for placeholder, value in {
            "DOSSIER_WORDPRESS": FOLDER,
            "MOT_DE_PASSE_DE_LA_BASE": PASSWORD,
            "UTILISATEUR_DE_LA_BASE": USER,
            "NOM_DE_LA_BASE": DATABASE,
            "NOUVELLE_ADRESSE": self.address,
        }.items():
            line = line.replace(placeholder, value)
        return line

    def _write(self, name: str, text: str) -> None:
        self._shell(f"cat > {FOLDER}/{name}", text)

    def _answers(self) -> bool:
        command = ["docker", "exec", self.name, "sh", "-c", "mariadb-admin ping && curl -s http://localhost"]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    def _logs(self) -> str:
        done = subprocess.run(["docker", "logs", self.name], check=False, capture_output=True, text=True)
        return done.stdout + done.stderr

    def _shell(self, script: str, text: str = "") -> str:
        command = ["docker", "exec", "-i", self.name, "sh", "-c", script]
        done = subprocess.run(command, input=text, check=False, capture_output=True, text=True, errors="replace")
        assert done.returncode == 0, f"{script}: {done.stdout[-500:]} {done.stderr}"
        return done.stdout
