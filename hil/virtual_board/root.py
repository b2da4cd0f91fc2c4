"""The guest's root file system: packages unpacked, never configured, and the files that makes up for."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .commands import BoardError, run
from .guest_files import DEPLOYED, INSTALLED, accounts, guest_files
from .modules import Modules
from .packages import Apt, Package, parse_depends
from .wheels import compile_bytecode

PACKAGES = (
    *("base-files", "base-passwd", "usr-is-merged", "login", "passwd", "mount", "hostname", "kmod", "iproute2"),
    *("bash", "dash", "coreutils", "util-linux", "grep", "sed", "findutils", "tar", "gzip", "procps", "strace"),
    *("openssh-server", "openssh-sftp-server", "libpam-modules", "busybox-static"),
    *("python3", "libstdc++6", "v4l-utils", "libv4l-0"),
)
#: The drivers are for the tests; fuse and overlay for what is deployed.
MODULES = (
    *("virtio_net", "virtio_rng", "virtio_console", "9p", "9pnet_virtio", "fuse", "overlay", "crc32c_generic"),
    *("vivid", "vicodec", "vim2m", "v4l2_mem2mem", "videobuf2_dma_contig"),
)
#: Folders that Debian has under /usr alone; packages still name them at the top.
MERGED = ("bin", "lib", "sbin")
HOST_KEY = ("ssh_host_ed25519_key", "ssh_host_ed25519_key.pub")
EMPTY = ("dev", "proc", "sys", "run", "tmp", "share", "mnt")


def resolve_root(apt: Apt) -> list[Package]:
    """The packages of the guest.

    The encoder that stands in for hardware is made with libx265, whose package has its version in its name.
    """
    x265 = [name for name in parse_depends(apt.show("libx265-dev").get("Depends", "")) if re.match(r"libx265-\d", name)]
    return apt.resolve([*PACKAGES, *x265])


def find_x265(packages: Sequence[Package]) -> Package:
    """The package of libx265 among the guest's."""
    for package in packages:
        if re.match(r"libx265-\d", package.name):
            return package
    raise BoardError("packages: found no libx265-VERSION among them")


def python_version(packages: Sequence[Package]) -> str:
    """Version of the guest's Python, as "3.11"."""
    for package in packages:
        if match := re.fullmatch(r"python(3\.\d+)-minimal", package.name):
            return match[1]
    raise BoardError("packages: found no python3.X-minimal among them")


def unpack_root(debs: Sequence[Path], root: Path) -> None:
    """Unpack packages into an empty folder, as a system with one /usr."""
    for name in MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in EMPTY:
        (root / name).mkdir()
    for deb in debs:
        _unpack(deb, root)
    for folder in ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info"):
        shutil.rmtree(root / folder, ignore_errors=True)
    for name in ("init", "poweroff", "reboot", "halt"):
        link = root / "usr/sbin" / name
        link.unlink(missing_ok=True)
        link.symlink_to("../bin/busybox")


def write_files(root: Path, python: str, keys: Path) -> None:
    """The guest's own files.

    :param keys: a folder with id_ed25519.pub, ssh_host_ed25519_key and ssh_host_ed25519_key.pub
    """
    masters = root / "usr/share/base-passwd"
    texts = {
        **accounts((masters / "passwd.master").read_text(), (masters / "group.master").read_text()),
        **guest_files(python, (keys / "id_ed25519.pub").read_text()),
        **{f"etc/ssh/{name}": (keys / name).read_text() for name in HOST_KEY},
    }
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o755 if text.startswith("#!") else 0o644)
    for name, mode in {"root": 0o700, "root/.ssh": 0o700, "tmp": 0o1777}.items():
        (root / name).chmod(mode)
    for name in ("root/.ssh/authorized_keys", "etc/shadow", "etc/ssh/ssh_host_ed25519_key"):
        (root / name).chmod(0o600)
    (root / "etc/mtab").symlink_to("../proc/mounts")
    (root / DEPLOYED[1:]).mkdir(parents=True)


def make_keys(folder: Path) -> None:
    """The key that logs in, and the guest's host key."""
    for name in ("id_ed25519", HOST_KEY[0]):
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name], "SSH keys")


def install_modules(modules: Modules, release: str, root: Path) -> None:
    """Put the kernel modules that the guest may load in their place."""
    folder = root / "usr/lib/modules" / release
    for name in modules.closure(MODULES):
        path = folder / modules.place(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(modules.data(name))
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        shutil.copy(modules.folder / name, folder)
    run(["depmod", "-b", root, release], "kernel modules")


def install_encoder(plugin: Path, root: Path) -> None:
    """Put the virtual encoder where libv4l2 looks for what stands between it and a device."""
    [folder] = root.glob("usr/lib/*/libv4l/plugins")
    shutil.copy(plugin, folder)


def install_python(sites: Sequence[Path], python: str, root: Path) -> None:
    """Put the contents of folders on the guest's Python path, and compile Debian's part, as its scripts would."""
    for site in sites:
        shutil.copytree(site, root / INSTALLED[1:], symlinks=True, dirs_exist_ok=True)
    library = f"usr/lib/python{python}"
    compile_bytecode(root / library, f"/{library}", python)


def _unpack(deb: Path, root: Path) -> None:
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as unpacking:
        words = ["tar", "-x", "--numeric-owner", "--keep-directory-symlink", "-C", str(root)]
        done = subprocess.run(words, stdin=unpacking.stdout, capture_output=True, text=True, check=False)
    if unpacking.returncode or done.returncode:
        lines = done.stderr.strip().splitlines()
        raise BoardError(f"package {deb.name}: cannot be unpacked: {lines[-1] if lines else 'not a package'}")
