"""What QEMU loads: an initramfs and an ext4 file system, both written without root rights or mounts."""

from __future__ import annotations

import gzip
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .commands import run

#: Besides what the files need: for what tests deploy and write (bytes). The file is sparse.
FREE_SPACE = 400 << 20
#: Until / can be mounted. The checksum is one that ext4 asks the kernel for by another name.
BOOT_MODULES = ("virtio_mmio", "virtio_pci", "virtio_blk", "crc32c_generic", "ext4")
#: Neither journal nor checksums: QEMU throws away what is written.
EXT4_FEATURES = "^has_journal,^metadata_csum,^orphan_file"

INITRAMFS_INIT = """\
#!/bin/sh
B=/bin/busybox
$B mount -t devtmpfs dev /dev
$B mount -t proc proc /proc
while read module; do $B insmod /modules/$module; done < /modules/order
n=0
while [ ! -b /dev/vda ] && [ $n -lt 200 ]; do $B usleep 50000; n=$((n + 1)); done
$B mount -t ext4 -o rw,noatime /dev/vda /root || { echo "no root file system on /dev/vda"; exec $B sh; }
$B umount /proc
$B mount --move /dev /root/dev
exec $B switch_root /root /sbin/init
"""


@dataclass(frozen=True)
class Entry:
    """One file of a cpio archive."""

    name: str
    mode: int
    data: bytes = b""


def write_cpio(entries: Sequence[Entry]) -> bytes:
    """A cpio archive in the format `newc`, as the kernel unpacks it: everything root's, of no date."""
    out = bytearray()
    for inode, entry in enumerate([*entries, Entry("TRAILER!!!", 0)], 1):
        name = entry.name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(entry.mode) else 1
        fields = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        out += bytes(-len(out) % 4) + entry.data
        out += bytes(-len(out) % 4)
    return bytes(out)


def write_initramfs(busybox: bytes, modules: Sequence[tuple[str, bytes]], out: Path) -> None:
    """The initramfs: busybox, and modules that are loaded in this order before / is mounted."""
    folders = [Entry(name, stat.S_IFDIR | 0o755) for name in ("bin", "dev", "modules", "proc", "root")]
    order = "".join(f"{name}\n" for name, _ in modules).encode()
    files = [
        Entry("bin/busybox", stat.S_IFREG | 0o755, busybox),
        Entry("bin/sh", stat.S_IFLNK | 0o777, b"busybox"),
        Entry("init", stat.S_IFREG | 0o755, INITRAMFS_INIT.encode()),
        Entry("modules/order", stat.S_IFREG | 0o644, order),
        *(Entry(f"modules/{name}", stat.S_IFREG | 0o644, data) for name, data in modules),
    ]
    out.write_bytes(gzip.compress(write_cpio([*folders, *files]), compresslevel=6, mtime=0))


def write_ext4(root: Path, out: Path) -> None:
    """An ext4 file system of a folder, with some space; all files are root's."""
    used = files = 0
    for where, folders, names in os.walk(root):
        files += len(folders) + len(names)
        used += sum(-(-(Path(where) / name).lstat().st_size // 4096) * 4096 for name in names)
    size = used + files * 512 + FREE_SPACE
    how = ["-m", "0", "-O", EXT4_FEATURES, "-E", "root_owner=0:0", "-d", str(root)]
    words = ["mke2fs", "-q", "-F", "-t", "ext4", *how, str(out), f"{size >> 20}M"]
    # In a name space of their own the files that a user unpacked are root's.
    run(words if os.geteuid() == 0 else ["unshare", "--map-root-user", *words], "root file system")
