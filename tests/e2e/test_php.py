"""Every PHP file of ours is read by each PHP that releases are built with; `make check` reads them with one."""

import subprocess

import pytest

from tests.support.town import CHECKOUT, Town

READ = """
set -eu
php -r 'echo PHP_VERSION, "\n";'
find /templates -name '*.php' | while read -r file; do php -l "$file"; done
"""


@pytest.mark.parametrize(("release", "php"), [("6.1", "8.2."), ("6.8", "8.4.")])
def test_each_built_php_reads_every_file(town: Town, release: str, php: str) -> None:
    image = town.json("release", "build", release)[0]["image"]
    mount = f"{CHECKOUT / 'templates'}:/templates:ro"
    command = ["docker", "run", "--rm", "--network", "none", "-v", mount, "--entrypoint", "sh", image, "-c", READ]
    version, *read = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    assert version.startswith(php)
    files = {str(path.relative_to(CHECKOUT / "templates")) for path in (CHECKOUT / "templates").rglob("*.php")}
    well = {line.removeprefix("No syntax errors detected in /templates/") for line in read if line}
    assert well == files
