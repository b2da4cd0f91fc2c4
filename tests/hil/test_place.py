"""A coordinator on loopback: what keeps a run from beginning is said in one line before it begins."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hil.environment import free_port
from hil.place import require_place

from featlink_codec.errors import FeatlinkError

pytest.importorskip("labgrid", reason="labgrid comes with the dependency group hil")

BIN = Path(sys.executable).parent
LIMIT_S = 30.0
#: A board with a switch, and one without; nothing listens there, and nothing is asked of it.
EXPORTS = """\
switched:
  NetworkSerialPort: {host: 127.0.0.1, port: 4001, speed: 115200, protocol: raw}
  NetworkService: {address: 127.0.0.1, username: featlink}
  NetworkPowerPort: {model: simplerest, host: 'http://127.0.0.1:9/{value}', index: '0'}
plain:
  NetworkSerialPort: {host: 127.0.0.1, port: 4002, speed: 115200, protocol: raw}
  NetworkService: {address: 127.0.0.1, username: featlink}
bare:
  NetworkService: {address: 127.0.0.1, username: featlink}
"""


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of a coordinator with the places switched, plain and bare, which are acquired, and idle."""
    folder = tmp_path_factory.mktemp("coordinator")  # it keeps its places in the working directory
    (folder / "exporter.yaml").write_text(EXPORTS)
    address = f"127.0.0.1:{free_port()}"
    started = []

    def start(*words: str) -> None:
        quiet = subprocess.DEVNULL
        started.append(subprocess.Popen([BIN / words[0], *words[1:]], cwd=folder, stdout=quiet, stderr=quiet))

    try:
        start("labgrid-coordinator", "-l", address)
        listening(address)
        start("labgrid-exporter", "-c", address, "-n", "desk", "--hostname", "127.0.0.1", "exporter.yaml")
        lend(address)
        yield address
    finally:
        for process in reversed(started):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def lend(address: str) -> None:
    """What `labgrid-client create`, `add-match` and `acquire` do, without ten starts of it."""
    from labgrid.remote.client import start_session
    from labgrid.remote.generated import labgrid_coordinator_pb2 as messages

    session = start_session(address)

    async def make() -> None:
        end = time.monotonic() + LIMIT_S
        while set(session.resources.get("desk", {})) < {"switched", "plain", "bare"}:
            assert time.monotonic() < end, "the exporter does not export"
            await asyncio.sleep(0.1)
        for place in ("switched", "plain", "bare", "idle"):
            await session.stub.AddPlace(messages.AddPlaceRequest(name=place))
        for place in ("switched", "plain", "bare"):
            match = messages.AddPlaceMatchRequest(placename=place, pattern=f"desk/{place}/*")
            await session.stub.AddPlaceMatch(match)
            await session.stub.AcquirePlace(messages.AcquirePlaceRequest(placename=place))
        await session.stop()
        await session.close()

    session.loop.run_until_complete(make())


def listening(address: str) -> None:
    host, _, port = address.rpartition(":")
    end = time.monotonic() + LIMIT_S
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError:
            assert time.monotonic() < end, "the coordinator does not listen"
            time.sleep(0.1)
        else:
            return


def test_a_place_that_has_everything_will_do(coordinator):
    require_place(coordinator, "switched", "rk3588", switched=True)
    require_place(coordinator, "plain", "rk3588", switched=False)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (
            "plain",
            r"found NetworkSerialPort, NetworkService, expected also NetworkPowerPort: .*boards\.rk3588\.power\]$",
        ),
        ("bare", r"found NetworkService, expected also NetworkSerialPort: its serial console$"),
        ("idle", r"^place idle is not acquired; see: labgrid-client -x \S+ -p idle acquire$"),
        ("other", r"^place pattern other matches nothing; see: labgrid-client -x \S+ places$"),
    ],
)
def test_what_a_place_lacks_is_one_line(coordinator, place, said):
    with pytest.raises(FeatlinkError, match=said) as caught:
        require_place(coordinator, place, "rk3588", switched=True)
    assert "\n" not in str(caught.value)


def test_a_coordinator_that_is_not_there_is_one_line(caplog):
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(FeatlinkError, match=f"^--coordinator: {address}: Could not connect to coordinator$"):
        require_place(address, "plain", "rk3588", switched=False)
    assert not caplog.records
