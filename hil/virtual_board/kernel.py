"""Debian's kernel, and the V4L2 test drivers that Debian leaves out of it, built from sources of the same version."""

from __future__ import annotations

import lzma
import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .commands import BoardError, run
from .packages import ARCHITECTURE, Apt, Package, parse_depends

COMPILER_PREFIX = "aarch64-linux-gnu-"
#: In the kernel's sources; Debian ships vivid of these, not the memory-to-memory drivers.
TEST_DRIVERS = "drivers/media/test-drivers"
VICODEC = ("codec-fwht.c", "codec-fwht.h", "codec-v4l2-fwht.c", "codec-v4l2-fwht.h", "vicodec-core.c")
VIM2M = "vim2m.c"
KBUILD = """\
obj-m := vicodec.o vim2m.o
vicodec-objs := vicodec-core.o codec-fwht.o codec-v4l2-fwht.o
"""
BUILT = ("vicodec.ko", "vim2m.ko")


@dataclass(frozen=True)
class Kernel:
    """The packages of one kernel; all have the same version."""

    #: as uname -r says it
    release: str
    image: Package
    #: headers, their common part and the build programs, the last for this machine
    headers: tuple[Package, ...]
    source: Package

    @property
    def packages(self) -> tuple[Package, ...]:
        """All of them."""
        return (self.image, *self.headers, self.source)


def find_kernel(apt: Apt) -> Kernel:
    """The kernel that Debian installs now.

    :raises BoardError: no sources of exactly its version are on offer
    """
    meta = f"linux-image-{ARCHITECTURE}"
    depends = parse_depends(apt.show(meta).get("Depends", ""))
    image = next((name for name in depends if name.startswith("linux-image")), "")
    match = re.fullmatch(r"linux-image-((\d+\.\d+)\.\S+)", image)
    if match is None:
        raise BoardError(f"package {meta}: found no linux-image-VERSION among its dependencies")
    release, series = match[1], match[2]
    headers = f"linux-headers-{release}"
    record = apt.show(headers)
    version = record["Version"]
    needed = parse_depends(record.get("Depends", ""))
    common = [f"{name}={version}" for name in needed if name.startswith("linux-headers-")]
    kbuild = [f"{name}:{apt.host}={version}" for name in needed if name.startswith("linux-kbuild-")]
    if not common or not kbuild:
        raise BoardError(f"package {headers}: found {needed}, expected linux-headers-*-common and linux-kbuild-*")
    names = [f"{image}={version}", f"{headers}={version}", *common, *kbuild, f"linux-source-{series}={version}"]
    # apt lists them in an order of its own.
    found = {package.name: package for package in apt.find(names)}
    try:
        first, *others, last = (found[re.split("[:=]", name)[0]] for name in names)
    except KeyError as error:
        raise BoardError(f"kernel {release}: apt-get found no package {error.args[0]} of version {version}") from None
    return Kernel(release, first, tuple(others), last)


def build_test_drivers(kernel: Kernel, apt: Apt, work: Path, folder: Path) -> None:
    """Put vicodec.ko and vim2m.ko for `kernel` into `folder`; `work` is an empty folder for what lies between."""
    *headers, source = apt.fetch([*kernel.headers, kernel.source])
    for package in headers:
        run(["dpkg-deb", "-x", package, work], f"package {package.name}")
    top = work.resolve() / "usr/src" / f"linux-headers-{kernel.release}"
    common = next(path for path in top.parent.glob("linux-headers-*-common"))
    # Debian's Makefile names the common part by where an installation has it.
    (top / "Makefile").write_text(f"include {common}/Makefile\n")
    drivers = work.resolve() / "test-drivers"
    drivers.mkdir()
    _unpack_sources(source, drivers)
    (drivers / "Makefile").write_text(KBUILD)
    make = ["make", "-s", "-j2", "-C", str(top), f"M={drivers}", "ARCH=arm64", f"CROSS_COMPILE={COMPILER_PREFIX}"]
    # The kernel's own compiler is a version of gcc by name, which need not be there for the other machine.
    run([*make, f"CC={COMPILER_PREFIX}gcc", "modules"], "kernel modules")
    for name in BUILT:
        run([f"{COMPILER_PREFIX}strip", "-g", "-o", folder / name, drivers / name], f"kernel module {name}")


def _unpack_sources(package: Path, folder: Path) -> None:
    """The test drivers' files out of a linux-source package; reading ends with the last of them."""
    wanted = {f"{TEST_DRIVERS}/vicodec/{name}": name for name in VICODEC} | {f"{TEST_DRIVERS}/{VIM2M}": VIM2M}
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as unpacking:
        assert unpacking.stdout is not None
        with tarfile.open(fileobj=unpacking.stdout, mode="r|") as files:
            for file in files:
                if not re.fullmatch(r"\./usr/src/linux-source-[\d.]+\.tar\.xz", file.name):
                    continue
                inner = files.extractfile(file)
                assert inner is not None
                with lzma.open(inner) as archive:
                    _take(archive, wanted, folder)
                break
        unpacking.stdout.close()
        unpacking.terminate()
    if wanted:
        raise BoardError(f"package {package.name}: found no {', '.join(wanted)}")


def _take(archive: IO[bytes], wanted: dict[str, str], folder: Path) -> None:
    """Write the files of `wanted` and take them from it, until none is left."""
    with tarfile.open(fileobj=archive, mode="r|") as sources:
        for source in sources:
            name = wanted.pop(source.name.partition("/")[2], None)
            if name is not None:
                data = sources.extractfile(source)
                assert data is not None
                (folder / name).write_bytes(data.read())
                if not wanted:
                    return
