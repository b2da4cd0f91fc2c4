"""Builds a virtual board, step by step; what was made of the same inputs before is used again."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from featlink_codec.errors import SettingsError

from ..target_fields import Target
from ..targets import find_target, load_targets
from ..virtual_encoder.build import PLUGIN, compile_plugin
from ..virtual_encoder.build import recipe as encoder_recipe
from .cache import MANIFEST, Cache, digest_file, key_of, locked
from .commands import BoardError, require_programs, run
from .identity import identity_of, set_identity
from .image import BOOT_MODULES, write_ext4, write_initramfs
from .kernel import BUILT, Kernel, build_test_drivers, find_kernel
from .machine import Machine, dump_device_tree
from .modules import Modules
from .packages import Apt, Package
from .root import (
    find_x265,
    install_encoder,
    install_modules,
    install_python,
    make_keys,
    python_version,
    resolve_root,
    unpack_root,
    write_files,
)
from .wheels import MACHINE, Wheels, featlink_sources, versions_of

#: Of the steps' results; a board's folder has copies of the last one's.
IMAGE_FILES = ("kernel", "initrd.img", "root.ext4", "id_ed25519")
STEPS = "steps.json"
#: What a first build writes, downloads included (bytes).
NEEDED_SPACE = 4 << 30


def build_board(
    name: str,
    out: Path,
    *,
    force: bool = False,
    offline: bool = False,
    say: Callable[[str], object] = lambda _: None,
) -> Path:
    """The folder out/NAME with all that QEMU needs to play a virtual board.

    :param force: fetch package lists and make every step anew
    :param offline: fetch nothing: only what the caches hold
    :param say: is told of each step as it ends, with its seconds
    :raises SettingsError: no such board, or it is not a virtual one
    :raises BoardError: a program is missing, a download or a step failed, or the disk is full
    """
    target = find_target(name)
    if target.virtual is None:
        virtual = ", ".join(one.name for one in load_targets() if one.virtual is not None)
        raise SettingsError(f"board: found {target.name!r}, a real one; expected a virtual one: {virtual}")
    require_programs()
    try:
        with locked(out / ".cache", say):
            return _Build(target, out, force, offline, say).board()
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise BoardError(f"{out}: the disk is full; a first build needs {NEEDED_SPACE >> 30} GB") from None
        raise


@dataclass(frozen=True)
class _Inputs:
    """What an image is made of."""

    kernel: Kernel
    packages: list[Package]
    #: of libx265, for the encoder that stands in for hardware
    headers: Package
    #: version of the guest's Python
    python: str
    #: wheels, with versions and hashes
    requirements: str
    #: file -> SHA-256
    sources: Mapping[str, str]

    def digests(self) -> dict[str, str]:
        """Name -> SHA-256, of everything that comes from elsewhere."""
        packages = {package.file: package.sha256 for package in (*self.kernel.packages, *self.packages, self.headers)}
        return {**packages, "wheels": hashlib.sha256(self.requirements.encode()).hexdigest(), **self.sources}


class _Build:
    def __init__(self, target: Target, out: Path, force: bool, offline: bool, say: Callable[[str], object]) -> None:
        self._target = target
        self._out = out
        self._force = force
        self._offline = offline
        self._say = say
        self._cache = Cache(out / ".cache", say)
        self._apt = Apt(out / ".cache" / "apt", offline=offline)
        self._seconds: dict[str, float] = {}

    def board(self) -> Path:
        started = time.monotonic()
        with self._step("inputs resolved"):
            inputs = self._resolve()
        key = key_of([inputs.python, *_recipe("*.py"), *encoder_recipe(), *_lines(inputs.digests())])
        image = self._cache.get("image", key, lambda folder: self._make_image(folder, inputs), force=self._force)
        with self._step("board written"):
            folder = self._write_board(image, inputs)
        self._say(f"{folder}: ready after {time.monotonic() - started:.1f} s")
        return folder

    def _resolve(self) -> _Inputs:
        self._apt.update(force=self._force)
        kernel, packages = find_kernel(self._apt), resolve_root(self._apt)
        [headers] = self._apt.find(["libx265-dev"])
        python = python_version(packages)
        requirements = Wheels(python, offline=self._offline).resolve()
        return _Inputs(kernel, packages, headers, python, requirements, dict(featlink_sources()))

    def _make_image(self, folder: Path, inputs: _Inputs) -> None:
        started = time.monotonic()
        self._check_space()
        kernel, python = inputs.kernel, inputs.python
        wheels = Wheels(python, offline=self._offline)
        with self._step("packages fetched"):
            self._apt.fetch([*kernel.packages, *inputs.packages, inputs.headers])
        drivers_of = [kernel.source.sha256, *(package.sha256 for package in kernel.headers), *_recipe("kernel.py")]
        x265 = find_x265(inputs.packages)
        encoder_of = [x265.sha256, inputs.headers.sha256, *encoder_recipe(), *_recipe("build.py")]
        wanted = inputs.requirements
        wheels_of = [python, wanted, *_recipe("wheels.py")]
        own_of = [python, *_lines(inputs.sources), *_recipe("wheels.py")]
        with ThreadPoolExecutor() as pool:  # none needs another's result, and most of each is other programs' work
            making = [
                pool.submit(self._made, "drivers", drivers_of, lambda made: self._make_drivers(made, kernel)),
                pool.submit(
                    self._made, "encoder", encoder_of, lambda made: self._make_encoder(made, x265, inputs.headers)
                ),
                pool.submit(
                    self._made, "wheels", wheels_of, lambda to: wheels.install(inputs.requirements, to / "site")
                ),
                pool.submit(self._made, "featlink", own_of, wheels.install_featlink),
            ]
        drivers, encoder, site, own = (future.result() for future in making)
        with self._scratch() as work:
            root = work / "root"
            with self._step("root made"):
                image, *debs = self._apt.fetch([kernel.image, *inputs.packages])
                unpack_root(debs, root)
                run(["dpkg-deb", "-x", image, work / "kernel"], "package of the kernel")
                built = [drivers / name for name in BUILT]
                modules = Modules(work / "kernel/lib/modules" / kernel.release, built)
                make_keys(work)
                write_files(root, python, work)
                install_modules(modules, kernel.release, root)
                install_encoder(encoder / PLUGIN, root)
                install_python([site / "site", own / "site"], python, root)
            with self._step("images written"):
                loaded = [(modules.place(name).name, modules.data(name)) for name in modules.closure(BOOT_MODULES)]
                write_initramfs((root / "usr/bin/busybox").read_bytes(), loaded, folder / "initrd.img")
                write_ext4(root, folder / "root.ext4")
                shutil.copy(work / "kernel/boot" / f"vmlinuz-{kernel.release}", folder / "kernel")
                shutil.copy(work / "id_ed25519", folder)
        times = {"build_seconds": round(time.monotonic() - started, 1), "steps": self._seconds}
        (folder / STEPS).write_text(json.dumps(times))

    def _made(self, step: str, parts: list[str], make: Callable[[Path], None]) -> Path:
        def timed(folder: Path) -> None:
            with self._step(f"{step} made"):
                make(folder)

        return self._cache.get(step, key_of(parts), timed, force=self._force)

    def _make_drivers(self, folder: Path, kernel: Kernel) -> None:
        with self._scratch() as work:
            build_test_drivers(kernel, self._apt, work, folder)

    def _make_encoder(self, folder: Path, x265: Package, headers: Package) -> None:
        with self._scratch() as work:
            for deb in self._apt.fetch([x265, headers]):
                run(["dpkg-deb", "-x", deb, work], f"package {deb.name}")
            [library] = (path for path in work.glob("usr/lib/*/libx265.so.*") if not path.is_symlink())
            compile_plugin(MACHINE, work / "usr/include", library, folder / PLUGIN)

    def _write_board(self, image: Path, inputs: _Inputs) -> Path:
        assert self._target.virtual is not None
        system, virtual = self._target.system, self._target.virtual
        identity = identity_of(self._target.name, virtual.model, virtual.stands_for)
        tree = set_identity(dump_device_tree(Machine(system.cpu, system.cores, system.memory_mib)), identity)
        folder = self._out / self._target.name
        (folder / "share").mkdir(parents=True, exist_ok=True)
        sums = json.loads((image / MANIFEST).read_text())
        for name in IMAGE_FILES:
            path = folder / name
            if not path.exists() or digest_file(path) != sums[name]:
                part = folder / f"{name}.part"
                run(["cp", "--sparse=always", "--reflink=auto", image / name, part], f"copy of {name}")
                part.chmod(0o600 if name == "id_ed25519" else 0o644)
                part.replace(path)
        (folder / "board.dtb").write_bytes(tree)
        facts = {
            "name": self._target.name,
            **asdict(identity),
            "cpu": system.cpu,
            "cores": system.cores,
            "memory_mib": system.memory_mib,
            "kernel": inputs.kernel.release,
            "python": inputs.python,
            **json.loads((image / STEPS).read_text()),
            "files": {**{name: sums[name] for name in IMAGE_FILES}, "board.dtb": hashlib.sha256(tree).hexdigest()},
            "packages": {package.name: package.version for package in (inputs.kernel.image, *inputs.packages)},
            "wheels": versions_of(inputs.requirements),
            "inputs": inputs.digests(),
        }
        (folder / "board.json").write_text(json.dumps(facts, indent=2) + "\n")
        return folder

    def _check_space(self) -> None:
        free = shutil.disk_usage(self._out).free
        if free < NEEDED_SPACE:
            raise BoardError(f"{self._out}: found {free >> 20} MB free, expected {NEEDED_SPACE >> 20} MB for a build")

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        # Beside the results: /tmp may be small, or memory.
        with tempfile.TemporaryDirectory(dir=self._out / ".cache", prefix="work-") as name:
            yield Path(name)

    @contextmanager
    def _step(self, what: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self._seconds[what] = round(time.monotonic() - started, 1)
        self._say(f"{what:20} {self._seconds[what]:6.1f} s")


def _lines(digests: Mapping[str, str]) -> list[str]:
    return [f"{name} {sha256}" for name, sha256 in sorted(digests.items())]


def _recipe(pattern: str) -> list[str]:
    """The modules of this package that decide how something is made."""
    return [digest_file(path) for path in sorted(Path(__file__).parent.glob(pattern))]
