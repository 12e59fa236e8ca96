"""TensorBoard: curves of every trial, and a HParams table that has every dial from the first trial.

One summary at the root of the logs declares all dials and metrics: without it TensorBoard takes its
columns from whichever trial it meets first, and dials of other branches of the space are missing.
Each trial writes its own values when it starts, so running trials stand in the table too.

Nothing here raises for a full or vanished disk: a log is worth less than the training it watches.
"""

import hashlib
import html
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from google.protobuf import struct_pb2
from tensorboard.compat.proto.event_pb2 import Event, SessionLog, SourceMetadata
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.projector.metadata import PROJECTOR_FILENAME
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from siamtune.search.dials import description
from siamtune.search.dimensions import ChoiceDimension, Dimension

INACTIVE = "n/a"
# Columns of the HParams table. TensorBoard shows the last value of each, where the project's own
# tables show the best epoch; the headings say so.
METRICS = {
    "val/auc": "last AUC",
    "val/f1": "last F1",
    "val/eer": "last EER",
    "val/accuracy": "last accuracy",
    "val/tar@far=0.01": "last TAR@1%",
    "val/tar@far=0.001": "last TAR@0.1%",
    "val/precision@1": "last P@1",
    "val/map@r": "last MAP@R",
    "train/loss": "last training loss",
}
SCALARS = (*METRICS, "lr", "images_per_second")

# What a finalist has besides (`report.finalists`): an event file, whose name ends in this and the
# epoch, and the projector's files.
FINALIST = ".finalist."
EMBEDDINGS, PEOPLE, SPRITE = "embeddings.tsv", "people.tsv", "faces.png"

logger = logging.getLogger(__name__)


def write_experiment(
    folder: Path, dimensions: Sequence[Dimension], remove: Callable[[Path], None] = Path.unlink
) -> None:
    """Declare every dial and metric of a search at the root of its logs, once.

    What declares other dials, of the space before `resume --space`, is removed.
    """
    experiment = api_pb2.Experiment(
        hparam_infos=[_column(dimension) for dimension in dimensions],
        metric_infos=[
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=name)
            for tag, name in METRICS.items()
        ],
    )
    declared = experiment.SerializeToString(deterministic=True)
    ending = f".{hashlib.sha256(declared).hexdigest()[:12]}"
    before = list(folder.glob("events.out.tfevents.*"))
    if any(path.name.endswith(ending) for path in before):
        return
    for path in before:
        remove(path)
    experiment.time_created_secs = time.time()
    log = EventLog(folder, ending=ending)
    log.write(summary=_hparams_summary(hparams_metadata.EXPERIMENT_TAG, experiment=experiment))
    log.close()


def trial_hparams(dimensions: Sequence[Dimension], suggested: Mapping[str, Any]) -> dict[str, Any]:
    """Every dial with its value in one trial; where it is inactive "n/a", or None for a number.

    A column has one type, else TensorBoard cannot sort it: where there is no number there is
    nothing, and the cell stays empty.
    """
    return {
        dimension.name: suggested.get(dimension.name, INACTIVE if _is_text(dimension) else None)
        for dimension in dimensions
    }


class TrialBoard:
    """One trial's place in TensorBoard, from its start to its end."""

    def __init__(
        self,
        folder: Path,
        hparams: Mapping[str, Any],
        *,
        config: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
        first_epoch: int = 1,
    ) -> None:
        """Open a log for a trial whose next epoch is `first_epoch`; later points are withdrawn.

        `hparams` is what `trial_hparams` gives; `config` is what the text tab shows, else they.
        `facts` stand there, too, at the end: data, protocol, split.
        """
        self._log = EventLog(folder, first_epoch)
        self._facts = facts or {}
        self._last_epoch = first_epoch - 1
        start = plugin_data_pb2.SessionStartInfo(start_time_secs=time.time())
        for name, value in hparams.items():
            if isinstance(value, bool):
                start.hparams[name].bool_value = value
            elif isinstance(value, int | float):
                start.hparams[name].number_value = value
            elif value is not None:
                start.hparams[name].string_value = str(value)
        self._log.write(
            summary=_hparams_summary(
                hparams_metadata.SESSION_START_INFO_TAG, session_start_info=start
            )
        )
        self._log.write(summary=text_summary("configuration", table("dial", config or hparams)))

    def epoch(self, metrics: Mapping[str, float]) -> None:
        """Add one point to each curve; `metrics` has "epoch" and what the trainer measured."""
        values = [
            Summary.Value(tag=tag, simple_value=metrics[tag]) for tag in SCALARS if tag in metrics
        ]
        self._last_epoch = int(metrics["epoch"])
        self._log.write(step=self._last_epoch, summary=Summary(value=values))

    def end(
        self, state: str, reason: str | None = None, best: Mapping[str, float] | None = None
    ) -> None:
        """Write how the trial ended, and close. A stopped trial has done what it was asked to.

        `best` are the metrics of its best epoch, if it has one.
        """
        self._log.write(
            step=self._last_epoch,
            summary=text_summary("trial", trial_text(state, reason, best, self._facts)),
        )
        status = {
            "complete": api_pb2.STATUS_SUCCESS,
            "stopped": api_pb2.STATUS_SUCCESS,
            "interrupted": api_pb2.STATUS_UNKNOWN,
        }.get(state, api_pb2.STATUS_FAILURE)
        end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
        self._log.write(
            summary=_hparams_summary(hparams_metadata.SESSION_END_INFO_TAG, session_end_info=end)
        )
        self._log.close()


def finalist_step(folder: Path) -> int | None:
    """The epoch whose model a trial's folder shows already, None where it shows none."""
    files = list(folder.glob(f"*{FINALIST}*"))
    return int(files[0].name.rpartition(".")[2]) if files else None


def remove_finalist(folder: Path) -> None:
    """Take away what `write_finalist` wrote."""
    names = (PROJECTOR_FILENAME, EMBEDDINGS, PEOPLE, SPRITE)
    for path in (*folder.glob(f"*{FINALIST}*"), *(folder / name for name in names)):
        path.unlink(missing_ok=True)


class EventLog:
    """An event file, written at once and by this thread; falls silent when the disk refuses.

    TensorBoard's own writer hands events to a thread that dies noisily on a full disk.
    """

    def __init__(self, folder: Path, first_step: int = 0, ending: str = "") -> None:
        self._file: BinaryIO | None = None
        # The name sorts by time: a retry in the same second is read after what it replaces.
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}{ending}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / name).open("xb")
        except OSError as error:
            self._give_up(error)
        self.write(
            file_version="brain.Event:2",
            source_metadata=SourceMetadata(writer="siamtune"),
        )
        self.write(step=first_step, session_log=SessionLog(status=SessionLog.START))

    def write(self, **event: Any) -> None:
        """Write one event, of the fields of the protocol buffer `Event`."""
        if self._file is None:
            return
        record = Event(wall_time=time.time(), **event).SerializeToString()
        try:
            RecordWriter(self._file).write(record)
            self._file.flush()
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                self._give_up(error)
            self._file = None

    def _give_up(self, error: OSError) -> None:
        logger.warning("nothing more is written to TensorBoard for this trial: %s", error)
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # closing tries to write what is left, and fails again
                file.close()


def _column(dimension: Dimension) -> api_pb2.HParamInfo:
    info = api_pb2.HParamInfo(name=dimension.name, description=description(dimension.name))
    if isinstance(dimension, ChoiceDimension):
        values = [value for value in dimension.choices if value is not None]
        domain = struct_pb2.ListValue()
        # TensorBoard hides rows whose value is not in the list.
        domain.extend([*values, INACTIVE] if dimension.when and _is_text(dimension) else values)
        info.domain_discrete.CopyFrom(domain)
        if all(isinstance(value, bool) for value in values):
            info.type = api_pb2.DATA_TYPE_BOOL
        elif all(isinstance(value, int | float) for value in values):
            info.type = api_pb2.DATA_TYPE_FLOAT64
        else:
            info.type = api_pb2.DATA_TYPE_STRING
    else:
        info.type = api_pb2.DATA_TYPE_FLOAT64
        info.domain_interval.min_value = dimension.low
        info.domain_interval.max_value = dimension.high
    return info


def _is_text(dimension: Dimension) -> bool:
    return isinstance(dimension, ChoiceDimension) and any(
        isinstance(value, str) for value in dimension.choices
    )


def _hparams_summary(tag: str, **content: Any) -> Summary:
    data = plugin_data_pb2.HParamsPluginData(
        version=hparams_metadata.PLUGIN_DATA_VERSION, **content
    )
    plugin = SummaryMetadata.PluginData(
        plugin_name=hparams_metadata.PLUGIN_NAME, content=data.SerializeToString()
    )
    metadata = SummaryMetadata(plugin_data=plugin)
    return Summary(value=[Summary.Value(tag=tag, metadata=metadata)])


def text_summary(tag: str, markdown: str) -> Summary:
    """Markdown in the text tab."""
    metadata = text_metadata.create_summary_metadata(display_name="", description="")
    tensor = TensorProto(dtype=DT_STRING, string_val=[markdown.encode()])
    return Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])


def trial_text(
    state: str,
    reason: str | None,
    best: Mapping[str, float] | None,
    facts: Mapping[str, Any],
) -> str:
    """What a trial did, as a table: its state, the numbers of its best epoch, on which data."""
    rows: dict[str, Any] = {"state": state.replace("_", " ")}
    if reason:
        rows["reason"] = reason
    if best:
        rows["best epoch"] = f"{best['epoch']:.0f}"
        rows |= {name: f"{best[name]:.4f}" for name in METRICS if name in best}
    return table("trial", {**rows, **facts})


def table(heading: str, values: Mapping[str, Any]) -> str:
    """Names and values in Markdown; whatever stands in a value, it stays text."""
    rows = [f"| {_escaped(name)} | {_escaped(value)} |" for name, value in values.items()]
    return "\n".join([f"| {heading} | value |", "| --- | --- |", *rows])


def _escaped(value: Any) -> str:
    text = html.escape(" ".join(str(value).split()))
    return "".join(f"&#{ord(c)};" if c in "|`*_[]\\" else c for c in text)
