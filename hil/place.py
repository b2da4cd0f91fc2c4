"""A place that labgrid's coordinator lends: whether it is there, is ours, and has what a board needs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from featlink_codec.errors import FeatlinkError

#: What place.yaml's drivers bind to: labgrid's class of a resource -> what it is, for people.
NEEDED = {"NetworkSerialPort": "serial console", "NetworkService": "address for SSH"}
POWER = {"NetworkPowerPort": 'power switch; without one say kind = "manual" in hil/local.toml: [boards.{board}.power]'}


def require_place(coordinator: str, place: str, board: str, *, switched: bool) -> None:
    """Return where a run on this place can begin; labgrid itself would say it once for every check.

    :param coordinator: HOST or HOST:PORT
    :param board: the target's name, for messages
    :param switched: whether the place's own power switch is used
    :raises FeatlinkError: no coordinator, no such place, one that is not acquired here, one without a resource
    """
    with _resources(coordinator, place) as resources:
        available = {entry.cls for entry in resources.values() if entry.avail}
        for name, what in {**NEEDED, **(POWER if switched else {})}.items():
            if name not in available:
                found = ", ".join(sorted(available)) or "nothing"
                raise FeatlinkError(
                    f"place {place}: found {found}, expected also {name}: its {what.format(board=board)}"
                )


@contextmanager
def _resources(coordinator: str, place: str) -> Iterator[Mapping[Any, Any]]:
    from labgrid.remote.client import Error, start_session

    logging.disable(logging.CRITICAL)  # it logs what it raises as well
    try:
        session = start_session(coordinator)
    except (Error, OSError) as error:
        raise FeatlinkError(f"--coordinator: {coordinator}: {_text(error)}") from None
    finally:
        logging.disable(logging.NOTSET)
    try:
        yield session.get_target_resources(session.get_place(place))
    except Error as error:
        todo = f"-p {place} acquire" if place in session.places else "places"
        raise FeatlinkError(f"{_text(error)}; see: labgrid-client -x {coordinator} {todo}") from None
    finally:
        session.loop.run_until_complete(session.stop())
        session.loop.run_until_complete(session.close())


def _text(error: Exception) -> str:
    return str(error).removeprefix("Error: ").splitlines()[0]
