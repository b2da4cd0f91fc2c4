"""Fuzzing of the model stream: see README.md. Seeded, with nothing but the codec, or coverage-guided with atheris.

python tests/fuzz/fuzz_model.py --minutes 10 [--seed N] [--out FOLDER]
python tests/fuzz/fuzz_model.py FILE ...              checks files, as findings are reproduced
python tests/fuzz/fuzz_model.py --coverage ...        libFuzzer's options and folders, as fuzz_reader takes them
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import os
import random
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent
CORPUS = FOLDER / "corpus_model"
#: Longest input: the longest golden vector, and a byte.
MAX_SIZE = 48 << 10
#: A question that takes so many seconds will not end; the process does, with a trace.
HANG = 120


@dataclass
class Run:
    """What a seeded run came to.

    :param kept: inputs that led to a result, at a line of the codec, that none before had led to
    :param findings: what did not hold, by the line that noticed
    """

    inputs: int = 0
    questions: int = 0
    answered: int = 0
    slowest: tuple[float, str] = (0.0, "")
    largest: tuple[int, str] = (0, "")
    seen: set[tuple[str, str]] = field(default_factory=set)
    kept: list[bytes] = field(default_factory=list)
    findings: dict[str, bytes] = field(default_factory=dict)

    def __str__(self) -> str:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return (
            f"{self.inputs} inputs, {self.questions} questions, {self.answered} of them answered, "
            f"{len(self.seen)} different results, {len(self.findings)} findings; slowest question "
            f"{self.slowest[0]:.3f} s ({self.slowest[1]}), most allocated by one {self.largest[0]} bytes "
            f"({self.largest[1]}); {peak:.0f} MiB resident at most"
        )


def seeds() -> list[bytes]:
    """Good streams, each with the options that reach most of it; then the corpus."""
    import seeds_model

    found = []
    own = {f"update{number}": 3 + number for number in (1, 2, 3)}
    foreign = {f"p13_update{number}": number for number in (1, 2, 3)}
    for name, data in seeds_model.streams().items():
        base = (own | foreign).get(name, 0)
        found += [bytes([base << 2 | flags]) + data for flags in (0, 1, 128)]
    return found + [file.read_bytes() for file in sorted(CORPUS.glob("*"))]


def inputs(seed: int, pool: list[bytes]) -> Iterator[bytes]:
    """Without end; what is added to the pool on the way is built upon."""
    import seeds_model
    from mutator_model import Mutator

    rng = random.Random(seed)
    mutate = Mutator(list(seeds_model.streams().values()))
    while True:
        # The new lead on; the good ones stay in play.
        data = pool[-rng.randint(1, min(len(pool), 200))] if rng.random() < 0.5 else rng.choice(pool)
        if rng.random() < 0.05:
            yield mutate.crossover(data, rng.choice(pool), MAX_SIZE, rng.getrandbits(48))
        else:
            yield mutate(data, MAX_SIZE, rng.getrandbits(48))


def seeded(seed: int, count: int | None, minutes: float | None, out: Path | None) -> Run:
    """Run for so many inputs or minutes. Findings go to `out`, and so does each input before it is tried."""
    import check_model

    run, pool = Run(), seeds()
    end = None if minutes is None else time.monotonic() + 60 * minutes
    said = time.monotonic()
    last = os.open(out / "last-input", os.O_CREAT | os.O_WRONLY) if out is not None else None
    first = list(pool)
    source = inputs(seed, pool)
    while (count is None or run.inputs < count) and (end is None or time.monotonic() < end):
        data = first.pop() if first and count is None else next(source)
        if last is not None:
            os.pwrite(last, data, 0)
            os.truncate(last, len(data))
            faulthandler.dump_traceback_later(HANG, exit=True)
        run.inputs += 1
        try:
            report = check_model.check(data)
        except Exception as error:
            _found(run, data, error, out)
            continue
        digest = hashlib.sha1(data).hexdigest()[:12]
        run.questions += len(report.results)
        run.answered += sum(not result for result in report.results.values())
        if out is not None and report.seconds > run.slowest[0]:
            (out / "slowest").write_bytes(data)
        run.slowest = max(run.slowest, (report.seconds, digest))
        run.largest = max(run.largest, (report.held, digest))
        results = {(question.rstrip("0123456789"), result) for question, result in report.results.items()}
        if results - run.seen:
            run.seen |= results
            run.kept.append(data)
            pool.append(data)
        if out is not None and time.monotonic() - said > 30:
            said = time.monotonic()
            sys.stderr.write(f"{run}\n")
    if last is not None:
        faulthandler.cancel_dump_traceback_later()
        os.close(last)
    return run


def _found(run: Run, data: bytes, error: Exception, out: Path | None) -> None:
    # An assertion about an error is told from others by where that was raised.
    chain = [error] if error.__context__ is None else [error, error.__context__]
    frames = [traceback.extract_tb(one.__traceback__)[-1] for one in chain]
    place = " of ".join([type(error).__name__, *(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)])
    if place in run.findings:
        return
    run.findings[place] = data
    if out is not None:
        file = out / f"crash-{hashlib.sha1(data).hexdigest()[:12]}"
        file.write_bytes(data)
        sys.stderr.write(f"{file}: {place}\n{''.join(traceback.format_exception(error))}\n")


def guided(arguments: list[str]) -> None:
    """Coverage-guided, until libFuzzer ends the process."""
    import shlex
    import tempfile

    import atheris

    with atheris.instrument_imports(include=["featlink_codec"], enable_loader_override=False):
        import check_model
        import mutator_model
        import seeds_model
    temporary = Path(tempfile.mkdtemp(prefix="featlink-fuzz-"))
    for number, data in enumerate(seeds()):
        (temporary / f"{number:03}").write_bytes(data)
    sys.stderr.write(f"the corpus is in {temporary}\n")
    mutate = mutator_model.Mutator(list(seeds_model.streams().values()), lambda data, size: atheris.Mutate(data, size))
    program = shlex.join([sys.executable, str(Path(__file__).resolve()), "--coverage"])
    defaults = [f"-max_len={MAX_SIZE}", "-timeout=10", "-rss_limit_mb=2048"]
    atheris.Setup(
        [program, *defaults, *arguments, str(temporary)],
        lambda data: check_model.check(data) and None,
        custom_mutator=mutate,
        custom_crossover=mutate.crossover,
    )
    atheris.Fuzz()


def main(arguments: list[str]) -> int:
    """The command line; 1 where something was found."""
    warnings.simplefilter("error")
    faulthandler.enable()
    if arguments[:1] == ["--coverage"]:
        guided(arguments[1:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"))
    given = parser.parse_args(arguments)
    if given.files:
        import check_model

        for file in given.files:
            sys.stderr.write(f"{file}: {check_model.check(file.read_bytes())}\n")
        return 0
    given.out.mkdir(parents=True, exist_ok=True)
    run = seeded(given.seed, None, given.minutes, given.out)
    sys.stderr.write(f"{run}\n")
    kept = given.out / "kept"
    kept.mkdir(exist_ok=True)
    for data in run.kept:
        (kept / hashlib.sha1(data).hexdigest()[:12]).write_bytes(data)
    return int(bool(run.findings))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
