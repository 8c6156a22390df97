"""The PHP of each release that we build: it reads every file of ours, and starts with programs that are compiled."""

import subprocess

import pytest

from tests.support.inside import container, shell
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


@pytest.mark.parametrize("release", ["6.1", "6.8"])
def test_a_site_starts_with_compiled_programs(town: Town, release: str) -> None:
    slug = f"compiled-{release.replace('.', '-')}"
    town.write_inventory(default_release=release)
    town.create(slug)
    assert town.get(slug).status == 200
    # Where no compiled programs are found, opcache makes a directory of its own beside the link.
    for fill, folder in (("true", "/run/php/compiled"), ("php -r '1;'", "/tmp/compiled")):
        script = f"{fill}; find {folder} -mindepth 1 -exec readlink {{}} +; find -L {folder} -name version.php.bin"
        linked, kept = shell(town, slug, script).stdout.split()
        assert linked.startswith("/srv/compiled/")
        assert kept.endswith("/wp-includes/version.php.bin")
    assert (
        "opcache"
        not in subprocess.run(["docker", "logs", container(town, slug)], capture_output=True, text=True).stderr
    )
