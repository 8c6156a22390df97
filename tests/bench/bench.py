"""Measure what docs/bench.md tables: each figure with its baseline, in one run. Run by `make bench`, as root."""

import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.support.town import PROVISION, SECONDS, Town, association

ROUNDS = 5
MANY = 20
SETTLE_SECONDS = 45  # php-fpm lets idle workers go after 10 s; the ticker wakes them once a minute


def floor(town: Town, image: str, count: int) -> float:
    """Return the seconds per site of bare docker commands."""
    script = Path(__file__).parent / "floor.sh"
    command = [str(script), image, f"{town.namespace}.database", str(town.data_root), str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS)
    return float(done.stdout.split()[0])


def one(town: Town, slug: str) -> tuple[float, float]:
    """Return the seconds from the start of `provision create` until HTTPS answers 200, and until the command ends."""
    source = town.describe(association(slug))
    begun = time.monotonic()
    process = town.start("create", "--from", source)
    answered = None
    while answered is None and time.monotonic() - begun < SECONDS:
        if town.get(slug).status == 200:
            answered = time.monotonic() - begun
        else:
            time.sleep(0.1)  # each question costs the machine some milliseconds
    assert process.wait(timeout=SECONDS) == 0
    assert answered is not None
    return answered, time.monotonic() - begun


def many(town: Town, count: int) -> float:
    """Return the seconds per site when one command creates ``count``."""
    source = town.describe(*(association(f"many-{number}") for number in range(count)))
    begun = time.monotonic()
    town.run("create", "--from", source)
    seconds = time.monotonic() - begun
    assert all(town.get(f"many-{number}").status == 200 for number in range(count))
    return seconds / count


def idle_memory(town: Town) -> float:
    """Return the mean PSS in MiB of all processes of an idle site, its containerd shim included."""
    time.sleep(SETTLE_SECONDS)
    sizes = []
    for container in town.docker().containers.list(filters={"label": "provision.role=site"}):
        if not (container.name or "").startswith(f"{town.namespace}.site.many-"):
            continue
        first = psutil.Process(int(container.attrs["State"]["Pid"]))
        shim = first.parent()
        assert shim is not None
        assert "shim" in shim.name()
        processes = [shim, first, *first.children(recursive=True)]
        sizes.append(sum(process.memory_full_info().pss for process in processes) / 1024 / 1024)
    assert len(sizes) == MANY
    return statistics.mean(sizes)


def help_seconds() -> float:
    """Return the median seconds of `provision --help`."""
    times = []
    for _ in range(ROUNDS * 2):
        begun = time.monotonic()
        subprocess.run([PROVISION, "--help"], check=True, capture_output=True)
        times.append(time.monotonic() - begun)
    return statistics.median(times)


def main() -> None:
    """Print the table; write nothing."""
    with tempfile.TemporaryDirectory(prefix="provision-bench-") as folder:
        town = Town(Path(folder))
        try:
            town.init()
            image = town.json("release", "list")
            digest = next(row["image"] for row in image if row["default"])
            one(town, "warm-up")
            pairs = [(floor(town, digest, 1), *one(town, f"one-{number}")) for number in range(ROUNDS)]
            base, answered, ended = (statistics.median(values) for values in zip(*pairs, strict=True))
            base_many, per_site = floor(town, digest, MANY), many(town, MANY)
            memory, helped = idle_memory(town), help_seconds()
        finally:
            town.remove()
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    sys.stdout.write(
        f"""
Measured by `make bench` on {psutil.cpu_count()} cores ({model.group(1) if model else "unknown"}), \
{psutil.virtual_memory().total >> 30} GiB; {ROUNDS} pairs, medians.

| what | figure | baseline, same run | ratio | bound |
| --- | --- | --- | --- | --- |
| `provision create` until HTTPS answers 200 | {answered:.2f} s | floor {base:.2f} s | {answered / base:.2f} | 2.0 |
| … until the command ends (verified, mails out) | {ended:.2f} s | floor {base:.2f} s | {ended / base:.2f} | – |
| one of {MANY} created by one command | {per_site:.2f} s | floor {base_many:.2f} s | {per_site / base_many:.2f} | 1.5 |
| memory of an idle site, mean of {MANY}, PSS with shim | {memory:.1f} MiB | – | – | 40 MiB |
| `provision --help` | {helped:.2f} s | – | – | 0.3 s |
"""
    )


if __name__ == "__main__":
    main()
