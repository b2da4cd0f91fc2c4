"""Kernel modules of an unpacked kernel: which a name needs, by what each says of itself."""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Iterator
from pathlib import Path

from .commands import BoardError

_SUFFIXES = (".ko", ".ko.xz")


class Modules:
    """The modules below lib/modules/VERSION, and some from elsewhere."""

    def __init__(self, folder: Path, more: Iterable[Path] = ()) -> None:
        """:param folder: lib/modules/VERSION; `more`: modules that were built besides, and go to its extra/."""
        self.folder = folder
        self._paths = {module_name(path): path for path in folder.rglob("*.ko*") if path.name.endswith(_SUFFIXES)}
        self._extra = {module_name(path): path for path in more}
        builtin = folder / "modules.builtin"
        lines = builtin.read_text().split() if builtin.exists() else []
        self._builtin = {module_name(Path(line)) for line in lines}

    def closure(self, names: Iterable[str]) -> list[str]:
        """`names` and what they depend on, dependencies first; what is in the kernel itself is left out.

        :raises BoardError: a module is nowhere
        """
        ordered: dict[str, None] = {}
        for name in names:
            self._visit(module_name(Path(name)), ordered, ())
        return list(ordered)

    def data(self, name: str) -> bytes:
        """A module's ELF file, uncompressed."""
        path = self._path(name)
        data = path.read_bytes()
        return lzma.decompress(data) if path.suffix == ".xz" else data

    def place(self, name: str) -> Path:
        """Where an uncompressed module stands, from lib/modules/VERSION."""
        path = self._path(name)
        if name in self._extra:
            return Path("extra") / path.name
        return path.relative_to(self.folder).with_name(path.name.removesuffix(".xz"))

    def _path(self, name: str) -> Path:
        path = self._extra.get(name) or self._paths.get(name)
        if path is None:
            raise BoardError(f"kernel module {name}: not in {self.folder}")
        return path

    def _visit(self, name: str, ordered: dict[str, None], above: tuple[str, ...]) -> None:
        if name in ordered or name in self._builtin:
            return
        if name in above:
            raise BoardError(f"kernel module {name}: depends on itself through {', '.join(above)}")
        for needed in dependencies(self.data(name)):
            self._visit(needed, ordered, (*above, name))
        ordered[name] = None


def module_name(path: Path) -> str:
    """A module's name by its file: - and _ are the same to the kernel."""
    return path.name.split(".ko")[0].replace("-", "_")


def dependencies(module: bytes) -> Iterator[str]:
    """The modules that a module names as its dependencies (its .modinfo is text, each entry ended by zero)."""
    at = module.find(b"\0depends=")
    if at >= 0:
        value = module[at + len(b"\0depends=") : module.index(b"\0", at + 1)]
        yield from (name.replace("-", "_") for name in value.decode().split(",") if name)
