"""Coverage-guided fuzzing of the stream reader, with atheris: see README.md. Takes libFuzzer's options and folders.

Nothing is written to the folders: they are copied to a temporary one, where findings go as well unless
-artifact_prefix says otherwise. Files instead of folders are only checked, as findings are reproduced.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["featlink_codec"], enable_loader_override=False):
    import check
    import mutator

VECTORS = Path(__file__).parents[1] / "vectors"
#: Used where the command line does not name them.
DEFAULTS = {"-max_len": "2048", "-timeout": "10", "-rss_limit_mb": "2048"}


def prepared(arguments: list[str]) -> list[str]:
    """The command line with folders replaced by a copy, and defaults put in."""
    options = [argument for argument in arguments if argument.startswith("-")]
    places = [Path(argument) for argument in arguments if not argument.startswith("-")]
    named = {option.partition("=")[0] for option in options}
    options = [f"{name}={value}" for name, value in DEFAULTS.items() if name not in named] + options
    if any(name.startswith("-merge") for name in named) or any(not place.is_dir() for place in places):
        return [*options, *map(str, places)]
    temporary = Path(tempfile.mkdtemp(prefix="featlink-fuzz-"))
    corpus = temporary / "corpus"
    corpus.mkdir()
    for place in places:
        shutil.copytree(place, corpus, dirs_exist_ok=True)
    for file in sorted(VECTORS.glob("feature_stream*/*.fms")):
        (corpus / file.name).write_bytes(bytes([2 if "16" in file.name else 0]) + file.read_bytes())
    if "-artifact_prefix" not in named:
        options.append(f"-artifact_prefix={temporary}/")
    sys.stderr.write(f"corpus and findings are in {temporary}\n")
    return [*options, str(corpus)]


def main(arguments: list[str]) -> None:
    """Fuzz until libFuzzer ends the process."""
    warnings.simplefilter("error")
    streams = [file.read_bytes() for file in sorted(VECTORS.glob("feature_stream*/*.fms"))]
    # Looked up late: atheris puts the real Mutate in its place when Fuzz() begins.
    mutate = mutator.Mutator(streams, lambda data, max_size: atheris.Mutate(data, max_size))
    # libFuzzer starts itself again, by the shell, where it merges or minimises.
    program = shlex.join([sys.executable, str(Path(__file__).resolve())])
    atheris.Setup(
        [program, *prepared(arguments)], check.check, custom_mutator=mutate, custom_crossover=mutate.crossover
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
