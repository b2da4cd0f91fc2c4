"""A board under test: its power, console and SSH as one object, over labgrid's drivers."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featlink_codec.errors import FeatlinkError

from .target_fields import Target

#: Lines of the console that an error shows.
TAIL_LINES = 30
#: A command that outlives its time is killed on the board; SSH gets this much longer to say so (seconds).
_GRACE_S = 20.0
#: What `timeout` of coreutils exits with.
_TIMED_OUT = 124
_DRAIN_S = 0.2
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])|[\x00-\x08\x0b-\x1f\x7f]")


class NoAnswerError(FeatlinkError):
    """The board does not do what boards do: it does not boot, log in or answer in time. Ends with its console."""


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    command: str
    stdout: str
    stderr: str
    code: int
    #: from here, the way over SSH included
    seconds: float

    @property
    def json(self) -> Any:
        """What standard output holds, parsed.

        :raises FeatlinkError: it is not JSON; with the command, its exit code and what it complained about
        """
        try:
            return json.loads(self.stdout)
        except ValueError:
            raise FeatlinkError(f"{self}: found {self.stdout[:300]!r}, expected JSON") from None

    def check(self) -> Done:
        """Itself, where the exit code is 0 (FeatlinkError: it is not)."""
        if self.code:
            raise FeatlinkError(str(self))
        return self

    def __str__(self) -> str:
        return f"`{self.command}`: exit code {self.code} after {self.seconds:.1f} s: {self.stderr.strip()[-2000:]}"


class Board:
    """A board, off at first; `boot` before anything else and `close` at the end.

    :param labgrid_target: labgrid's Target, with a power driver, ShellDriver and SSHDriver
    :param target: what is known of this kind of board
    :param console_log: the file that labgrid writes the console to (`--lg-log`)
    :param figures: JSON lines, one for each `record`
    """

    def __init__(self, labgrid_target: Any, target: Target, console_log: Path, figures: Path) -> None:
        self.target = target
        #: model, kernel, instruction set, versions, times, deployed bundle: what the report shows
        self.facts: dict[str, Any] = {"board": target.name, "virtual": target.virtual is not None}
        #: the check that runs now, and where its figures go besides the file; the suite's conftest sets both
        self.check = ""
        self.on_record: Callable[[str, Any], None] = lambda _name, _value: None
        #: how `device` calls featlink-device; deployment sets it
        self.launcher = "featlink-device"
        #: run after every boot: a virtual board forgets what was written when its power goes
        self.after_boot: list[Callable[[Board], None]] = []
        self.boots = 0
        self._labgrid = labgrid_target
        self._console_log = console_log
        self._figures = figures
        self.power = labgrid_target.get_driver("PowerProtocol", activate=False)
        self.shell = labgrid_target.get_driver("ShellDriver", activate=False)
        self.ssh = labgrid_target.get_driver("SSHDriver", activate=False)

    @property
    def virtual(self) -> bool:
        """Whether this is QEMU."""
        return self.target.virtual is not None

    def boot(self) -> None:
        """Power on, log in on the console, connect over SSH; also whatever is in `after_boot`.

        A power driver that asks a person is not used: the board is on already.

        :raises NoAnswerError: no login or no SSH in time
        """
        begin_s = time.monotonic()
        with self._answering("power"):
            self._labgrid.activate(self.power)
            if type(self.power).__name__ != "ManualPowerDriver":
                self.power.on()
        with self._answering("console: no login"):
            self._labgrid.activate(self.shell)
        login_s = time.monotonic() - begin_s
        with self._answering("SSH: no connection"):
            self._labgrid.activate(self.ssh)
        self.boots += 1
        self.facts |= {"login_s": round(login_s, 1), "ssh_s": round(time.monotonic() - begin_s, 1)}
        for act in self.after_boot:
            act(self)

    def power_cycle(self) -> None:
        """Cut the power, and boot again. A virtual board comes back as it was built, with the bundle deployed anew."""
        self._disconnect()
        with self._answering("power"):
            self._labgrid.activate(self.power)
            self.power.cycle()
        self.boot()

    def close(self) -> None:
        """Disconnect; a virtual board ends. Never raises, and may be called again."""
        self._drain()
        with suppress(Exception):
            self._disconnect()
        if not self.virtual:
            return
        process = getattr(self.power, "_child", None)
        with suppress(Exception):
            self.power.off()
        # Ctrl-C reaches QEMU too, and then it does not answer labgrid: end it by its own process.
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def run(self, command: str, timeout_s: float = 60.0) -> Done:
        """Run a shell command over SSH as the board's user. Any exit code is an answer.

        :raises NoAnswerError: it did not end within `timeout_s` (it is killed there), or the connection broke
        """
        # The board ends it, so that nothing is left over there; labgrid's own timeout would leave both ends running.
        limited = f"timeout -k 5 {timeout_s:g} sh -c {shlex.quote(command)}"
        begin_s = time.monotonic()
        with self._answering(f"`{command}`"):
            out, err, code = self.ssh.run(limited, decodeerrors="replace", timeout=timeout_s + _GRACE_S)
        seconds = time.monotonic() - begin_s
        if (code == _TIMED_OUT or code == 137) and seconds >= timeout_s:
            raise self._no_answer(f"`{command}`: did not end within {timeout_s:g} s")
        if code == 255 and not self.alive():
            raise self._no_answer(f"`{command}`: the SSH connection broke")
        return Done(command, "".join(f"{line}\n" for line in out), "".join(f"{line}\n" for line in err), code, seconds)

    def device(self, *words: str, timeout_s: float = 180.0) -> Done:
        """Run `featlink-device WORDS...` of the deployed bundle. Under emulation its imports alone take 10 s."""
        return self.run(shlex.join([self.launcher, *words]), timeout_s)

    def console(self, command: str, timeout_s: float = 30.0) -> Done:
        """Run a command on the serial console, in the shell that is logged in there. Standard error is in stdout."""
        begin_s = time.monotonic()
        with self._answering(f"console: `{command}`"):
            out, _, code = self.shell.run(command, timeout=timeout_s, decodeerrors="replace")
        return Done(command, "".join(f"{line}\n" for line in out), "", code, time.monotonic() - begin_s)

    def put(self, path: Path, remote: str) -> None:
        """Copy a file or folder to the board, as scp -r does: into `remote` where that is a folder already."""
        with self._answering(f"copy of {path} to the board"):
            self.ssh.put(str(path), remote)

    def get(self, remote: str, path: Path) -> None:
        """Copy a file or folder from the board, as scp -r does."""
        with self._answering(f"copy of {remote} from the board"):
            self.ssh.get(remote, str(path))

    def alive(self) -> bool:
        """Whether the board still answers over the SSH connection that stands."""
        try:
            return bool(self.ssh.run("true", timeout=20)[2] == 0)
        except Exception:  # whatever labgrid and its children raise: it does not
            return False

    def console_tail(self, lines: int = TAIL_LINES) -> str:
        """The console's last lines, without escape sequences."""
        self._drain()
        text = self._console_log.read_bytes().decode(errors="replace") if self._console_log.exists() else ""
        return "\n".join(plain_text(text).splitlines()[-lines:])

    def record(self, name: str, value: float | int | str, unit: str = "") -> None:
        """Keep a figure of the check that runs now, for the report and the JUnit file."""
        line = {"check": self.check, "name": name, "value": value, "unit": unit}
        with self._figures.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.on_record(name, f"{value} {unit}".strip())

    def _disconnect(self) -> None:
        # labgrid's pitfall: both must be off before the power goes, or they wait for what does not come.
        for driver in (self.ssh, self.shell):
            self._labgrid.deactivate(driver)
        # The connection to the console may go with the power. QEMU's is its power switch too, and sees to itself.
        if not self.virtual:
            self._labgrid.deactivate(self.shell.console)

    def _drain(self) -> None:
        """Read what the console said while nobody listened; labgrid logs what is read."""
        with suppress(Exception):  # closed, or labgrid's TIMEOUT once there is nothing more
            while self.shell.console.read(timeout=_DRAIN_S):
                pass

    def _qemu_exit(self) -> int | None:
        """QEMU's exit code where it has ended, or is about to: its pipes close a moment before."""
        process = getattr(self.power, "_child", None)
        if process is None:
            return None
        with suppress(subprocess.TimeoutExpired):
            return int(process.wait(1))
        return None

    def _no_answer(self, what: str) -> NoAnswerError:
        tail = self.console_tail() or "(nothing)"
        return NoAnswerError(f"board {self.target.name}: {what}\nits console's last lines:\n{tail}")

    @contextmanager
    def _answering(self, what: str) -> Iterator[None]:
        """Errors of labgrid and its children become one kind, with the console."""
        try:
            yield
        except NoAnswerError:
            raise
        except Exception as error:
            # pexpect's messages go on with its whole state.
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            if (code := self._qemu_exit()) is not None:
                first = f"QEMU ended with exit code {code}; what it said stands in its standard error"
            raise self._no_answer(f"{what}: {first}") from error


def plain_text(text: str) -> str:
    """A console's text as lines: without escape sequences, and with what a carriage return overwrote."""
    return _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
