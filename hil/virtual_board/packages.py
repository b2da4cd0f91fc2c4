"""Debian's packages for another architecture, from this machine's own package sources, without root rights."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from .cache import digest_file
from .commands import BoardError, run

ARCHITECTURE = "arm64"
#: Package lists older than this are fetched again (seconds).
LISTS_AGE_S = 24 * 3600

_URI_LINE = re.compile(r"^'[^']+' (?P<file>\S+\.deb) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})$")


@dataclass(frozen=True)
class Package:
    """One package file, as apt resolved it."""

    name: str
    version: str
    architecture: str
    #: as apt-get download names it
    file: str
    size: int
    sha256: str

    @property
    def request(self) -> str:
        """What apt-get calls exactly this one."""
        architecture = "" if self.architecture == "all" else f":{self.architecture}"
        return f"{self.name}{architecture}={self.version}"


def parse_uris(text: str) -> list[Package]:
    """The packages that `apt-get --print-uris` lists.

    :raises BoardError: a line of a package that is not understood, such as one with another hash
    """
    packages = []
    for line in text.splitlines():
        if not line.startswith("'"):
            continue
        match = _URI_LINE.match(line.strip())
        parts = match["file"].removesuffix(".deb").split("_") if match else []
        if match is None or len(parts) != 3:
            raise BoardError(f"apt-get --print-uris: found {line[:200]!r}, expected address, file, size and SHA256")
        name, version, architecture = (unquote(part) for part in parts)
        packages.append(Package(name, version, architecture, match["file"], int(match["size"]), match["sha256"]))
    return packages


def parse_record(text: str) -> dict[str, str]:
    """The first record that `apt-cache show` prints, field by field."""
    fields: dict[str, str] = {}
    key = ""
    for line in text.split("\n\n", 1)[0].splitlines():
        if line[:1].isspace():
            fields[key] += "\n" + line.strip()
        else:
            key, _, value = line.partition(":")
            fields[key] = value.strip()
    return fields


def parse_depends(value: str) -> list[str]:
    """Package names of a Depends field; of alternatives the first."""
    return [re.split(r"[\s(:|]", item.strip(), maxsplit=1)[0] for item in value.split(",") if item.strip()]


class Apt:
    """apt with a state of its own in a folder: the machine's packages and rights play no part."""

    def __init__(self, folder: Path, *, offline: bool = False) -> None:
        self._folder = folder.resolve()
        self._debs = self._folder / "debs"
        self._offline = offline
        for name in ("lists/partial", "archives/partial", "debs"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        status = self._folder / "status"
        if not status.exists():  # a newer one would outdate apt's cache
            status.touch()
        host = run(["dpkg", "--print-architecture"], "packages").strip()
        settings = {
            "APT::Architecture": ARCHITECTURE,
            "APT::Architectures": f"{ARCHITECTURE},{host}",
            "APT::Install-Recommends": "false",
            "Acquire::ForceHash": "SHA256",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "APT::Sandbox::User": "",
            "Debug::NoLocking": "true",
            "Dir::State": self._folder,
            "Dir::State::Lists": self._folder / "lists",
            "Dir::State::status": status,
            "Dir::Cache": self._folder,
            # Containers are often told to keep none.
            "Dir::Cache::pkgcache": "pkgcache.bin",
            "Dir::Cache::srcpkgcache": "srcpkgcache.bin",
            # Stays empty: what lies there is not listed by --print-uris.
            "Dir::Cache::archives": self._folder / "archives",
        }
        self._settings = [f"-o{name}={value}" for name, value in settings.items()]
        self.host = host

    def update(self, *, force: bool = False) -> None:
        """Fetch the package lists where they are old.

        :raises BoardError: they cannot be fetched; or there are none, and there is no network
        """
        stamp = self._folder / "updated"
        if self._offline:
            if not stamp.exists():
                raise BoardError("packages: found no package lists, and --offline forbids to fetch them")
            return
        if not force and stamp.exists() and time.time() - stamp.stat().st_mtime < LISTS_AGE_S:
            return
        # Without the first option a list that could not be fetched is a warning, and an old one is used.
        self._get("package lists", "-oAPT::Update::Error-Mode=any", "update")
        stamp.touch()

    def show(self, name: str) -> dict[str, str]:
        """The record of a package in its newest version (BoardError: there is none)."""
        words = ["apt-cache", *self._settings, "show", "--no-all-versions", name]
        return parse_record(run(words, f"package {name}"))

    def resolve(self, names: Sequence[str]) -> list[Package]:
        """The packages and all that they depend on, sorted by name."""
        listed = self._get("packages", "install", "--yes", "--print-uris", *names)
        return sorted(parse_uris(listed), key=lambda package: package.name)

    def find(self, names: Sequence[str]) -> list[Package]:
        """Exactly these packages, each as name[:architecture][=version]."""
        return parse_uris(self._get(f"packages {', '.join(names)}", "download", "--print-uris", *names))

    def fetch(self, packages: Sequence[Package]) -> list[Path]:
        """The files of packages, checked; downloaded where they are missing or damaged.

        :raises BoardError: a download failed, or it is not what the package lists say
        """
        missing = [package for package in packages if not self._checked(package)]
        if missing and self._offline:
            names = ", ".join(package.request for package in missing)
            raise BoardError(f"packages: not in the cache, and --offline forbids to fetch them: {names}")
        for package in missing:
            (self._debs / package.file).unlink(missing_ok=True)
        if missing:
            self._get("packages: download", "download", *(package.request for package in missing), cwd=self._debs)
        for package in missing:
            if not self._checked(package):
                raise BoardError(f"package {package.request}: what was downloaded is not what the package lists say")
        return [self._debs / package.file for package in packages]

    def _checked(self, package: Package) -> bool:
        path = self._debs / package.file
        return path.exists() and path.stat().st_size == package.size and digest_file(path) == package.sha256

    def _get(self, what: str, *words: str, cwd: Path | None = None) -> str:
        return run(["apt-get", "-q", *self._settings, *words], what, cwd=cwd)
