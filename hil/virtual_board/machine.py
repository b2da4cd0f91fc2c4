"""The machine that QEMU plays: its command line, its device tree, and starts of it for a first look."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .commands import BoardError, run, search_path

QEMU = "qemu-system-aarch64"
#: labgrid's QEMUDriver attaches a disk to a machine of exactly this name.
MACHINE = "virt"
KERNEL_ARGUMENTS = "console=ttyAMA0 quiet loglevel=3 mitigations=off audit=0"
#: One thread: a virtual board is for being right, and shares the machine.
ACCELERATOR = "tcg,thread=single,tb-size=512"


@dataclass(frozen=True)
class Machine:
    """What the device tree depends on; a start must have the same."""

    cpu: str
    cores: int
    memory_mib: int

    def words(self) -> list[str]:
        """QEMU's arguments for it."""
        return ["-cpu", self.cpu, "-smp", str(self.cores), "-m", str(self.memory_mib)]


def dump_device_tree(machine: Machine) -> bytes:
    """The device tree (DTB) that QEMU makes for a machine."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "machine.dtb"
        words = [QEMU, "-M", f"{MACHINE},dumpdtb={file}", *machine.words(), "-nographic", "-nodefaults"]
        run(words, "device tree")
        return file.read_bytes()


def command(folder: Path, machine: Machine, ssh_port: int) -> list[str]:
    """The command line of a start: the console on standard input and output, nothing written to the image."""
    drive = f"if=none,id=root,file={folder}/root.ext4,format=raw,snapshot=on,cache=unsafe"
    return [
        QEMU,
        *("-M", MACHINE, *machine.words(), "-accel", ACCELERATOR),
        *("-nographic", "-nodefaults", "-serial", "stdio", "-no-reboot"),
        *("-kernel", f"{folder}/kernel", "-initrd", f"{folder}/initrd.img", "-dtb", f"{folder}/board.dtb"),
        *("-append", KERNEL_ARGUMENTS),
        *("-drive", drive, "-device", "virtio-blk-pci,drive=root"),
        *(
            "-netdev",
            f"user,id=net,hostfwd=tcp:127.0.0.1:{ssh_port}-:22",
            "-device",
            "virtio-net-pci,netdev=net,romfile=",
        ),
        *("-device", "virtio-rng-pci"),
        *("-fsdev", f"local,id=share,path={folder}/share,security_model=none"),
        *("-device", "virtio-9p-pci,fsdev=share,mount_tag=share"),
    ]


class Guest:
    """A started board that takes commands over SSH."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, port: int, console: Path) -> None:
        self.process = process
        self._console = console
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=5"]
        self._ssh = ["ssh", "-i", f"{folder}/id_ed25519", "-p", str(port)]
        self._ssh += [word for option in options for word in ("-o", option)] + ["root@127.0.0.1"]

    def run(self, line: str, timeout_s: float = 120) -> str:
        """What a shell line prints in the guest (BoardError: it failed, or took too long)."""
        try:
            done = subprocess.run([*self._ssh, line], capture_output=True, text=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            raise BoardError(f"guest: {line}: no end after {timeout_s:g} s") from None
        if done.returncode:
            raise BoardError(f"guest: {line}: exit code {done.returncode}: {done.stderr.strip()[-500:]}")
        return done.stdout

    def wait(self, limit_s: float) -> None:
        """Return once it takes a command (BoardError: it did not, with the console's last lines)."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end and self.process.poll() is None:
            try:
                self.run("true", timeout_s=20)
            except BoardError:
                time.sleep(0.2)
            else:
                return
        ended = self.process.poll()
        what = f"no SSH after {limit_s:g} s" if ended is None else f"QEMU ended with exit code {ended}"
        lines = self._console.read_text(errors="replace").splitlines()[-5:]
        raise BoardError(f"guest: {what}; console: {' / '.join(lines) or 'nothing'}")

    def power_off(self, limit_s: float = 30) -> float:
        """Switch it off from within; seconds that this took (BoardError: QEMU still runs)."""
        started = time.monotonic()
        self.run("poweroff")
        try:
            self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise BoardError(f"guest: still on {limit_s:g} s after poweroff") from None
        return time.monotonic() - started


@contextmanager
def started(folder: Path, machine: Machine, limit_s: float = 120) -> Iterator[Guest]:
    """The board of a folder, from its first SSH command to the end of the block, which ends QEMU."""
    folder = folder.resolve()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        console = Path(name) / "console.log"
        with console.open("wb") as log:
            words = command(folder, machine, port)
            env = {"PATH": search_path()}
            process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, env=env)
        try:
            guest = Guest(process, folder, port, console)
            guest.wait(limit_s)
            yield guest
        finally:
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()
