"""`featlink-host prepare distill`: train a small network after a larger one's answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .prepare_files import check_outputs
from .prepare_options import AsJson, Force, Report, tell
from .progress_bar import ProgressBar


def distill(
    images: Annotated[Path, typer.Option(help="Pictures to train on: IDX (.gz), .npy or .npz, bytes, square.")],
    labels: Annotated[Path, typer.Option(help="Their classes, one a picture: IDX (.gz), .npz, or text.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The student, an ONNX file.")],
    teacher: Annotated[Path | None, typer.Option(help="ONNX file, from pictures to logits.")] = None,
    without_teacher: Annotated[
        bool, typer.Option("--without-teacher", help="Train on the labels alone, all else being equal.")
    ] = False,
    test_images: Annotated[Path | None, typer.Option(help="Looked at once, when all is done.")] = None,
    test_labels: Annotated[Path | None, typer.Option(help="Their classes.")] = None,
    scale: Annotated[float, typer.Option(help="A sample x becomes x * scale + offset.")] = 1 / 255,
    offset: Annotated[float, typer.Option(help="See --scale.")] = 0.0,
    width: Annotated[int, typer.Option(min=1, help="Channels of the first convolution.")] = 8,
    epochs: Annotated[int, typer.Option(min=1, help="Times that all pictures are gone through.")] = 8,
    batch: Annotated[int, typer.Option(min=1, help="Pictures of a step.")] = 256,
    learning_rate: Annotated[float, typer.Option(help="The greatest; it rises, then falls.")] = 0.01,
    temperature: Annotated[float, typer.Option(help="T of the soft predictions.")] = 4.0,
    alpha: Annotated[float, typer.Option(help="Weight of L_soft, T^2 apart.")] = 0.9,
    beta: Annotated[float, typer.Option(help="Weight of L_hard.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and order.")] = 0,
    hold_out: Annotated[int, typer.Option(min=0, help="Pictures that are looked at, never trained on.")] = 5000,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Train on so many of the other pictures only.  [all]")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(metavar="DIR", help="What a stopped run goes on with.  [OUT.state beside it]")
    ] = None,
    report: Report = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train a student after a teacher (knowledge distillation), and export it as ONNX.

    The student is made of depthwise separable convolutions and a Ghost module;
    its tensor `features`, which is never negative, is where to split it. The
    loss is L = alpha L_soft + beta L_hard: cross-entropy with the teacher's
    soft predictions at temperature T, times T^2, and with the labels.

    A run that was stopped goes on with its last whole epoch when it is called
    again. Seeded: the same call gives the same student on the same machine.

    Needs PyTorch, the extra `train` of featlink-host.
    """
    from featlink_codec.errors import SettingsError
    from featlink_codec.extractor import sha256_of
    from featlink_codec.files import write_whole

    from .training.extra import require_torch
    from .training.options import DistillOptions

    if teacher is None and not without_teacher:
        raise SettingsError("no teacher: give --teacher, or --without-teacher")
    check_outputs((out,), (images, labels, teacher, test_images, test_labels), report, force)
    options = DistillOptions(
        width=width,
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        temperature=temperature,
        alpha=alpha,
        beta=beta,
        seed=seed,
        hold_out=hold_out,
        pictures=limit,
    )
    require_torch()
    from .prepare.record import StepRecord, package_version, plain, write_step
    from .prepare.samples import Preprocessing
    from .training.report import explain_student, student_page
    from .training.run import DistillFiles
    from .training.run import distill as run_distill

    files = DistillFiles(images, labels, None if without_teacher else teacher, test_images, test_labels)
    with ProgressBar() as bar:
        found = run_distill(
            files, options, Preprocessing(scale, offset), state or out.with_name(f"{out.name}.state"), bar
        )
    write_whole(out, found.model.SerializeToString())
    figures = plain(found.figures())
    if report is not None:
        given = {**vars(options), "scale": scale, "offset": offset, "without_teacher": without_teacher}
        record = StepRecord(
            "distill", package_version(), files.digests(), plain(given), figures, {out.name: sha256_of(out)}
        )
        write_step(report, record, student_page(out.name, found.architecture, figures))
    tell({"model": str(out), **figures}, [f"{out}: {explain_student(figures)}"], as_json)
