"""The same search with 1, 2 and 4 workers a trial, side by side.

    python benchmarks/workers.py            # on two processors, with tiny networks: a minute or two
    python benchmarks/workers.py 1 2

The batch is global: losses and mining see the embeddings of all ranks, batch normalization their
statistics, and the metrics come from all. So proposals are the same, and losses and metrics agree
to what the order of additions leaves. The network has batch normalization, the loss mines.
"""

import argparse
import os
import tempfile
from pathlib import Path

from leaks import TINY, people

from siamtune.launch.cluster import TrialResources
from siamtune.launch.job import DataSpec
from siamtune.launch.search import SearchOptions, run_search
from siamtune.search.records import TrialRecord
from siamtune.search.runs import new_run
from siamtune.search.space import load_space

SPACE = f"""
version: 1
study:
  trials: 4
  scheduler: {{asha: {{min_epochs: 1, eta: 3}}}}
  sampler: {{tpe: {{}}}}
  seed: 0
fixed:
  epochs: 3
{TINY}start: [{{}}]
space:
  loss.name: {{choice: [triplet, supcon]}}
  optim.lr: {{float: [1e-4, 1e-2], log: true}}
"""


class Silent:
    def update(self, records, changed) -> None: ...

    def tick(self) -> None: ...

    def log(self, line: str) -> None:
        print(line)


def search(work: Path, workers: int) -> dict[int, TrialRecord]:
    (work / "space.yaml").write_text(SPACE)
    result = run_search(
        new_run(work / "runs", f"workers-{workers}", "workers"),
        load_space(str(work / "space.yaml")),
        DataSpec(str(work / "people")),
        {"data": "patterns", "protocol": "identity-holdout"},
        SearchOptions(
            trials=4, concurrent=1, resources=TrialResources(workers, cpus_per_worker=1 / workers)
        ),
        Silent(),
    )
    return dict(result.records)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("workers", nargs="*", type=int, default=[1, 2, 4])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="siamtune-workers-") as name:
        work = Path(name)
        os.environ["SIAMTUNE_CACHE"] = str(work / "cache")
        people(work / "people")
        # The one with the most workers first: it needs a dashboard, which the others do not mind.
        most_first = sorted(given.workers, reverse=True)
        searches = {workers: search(work, workers) for workers in most_first}
    first = searches[given.workers[0]]
    columns = [f"{what}, {workers}" for what in ("loss", "AUC") for workers in given.workers]
    print("| trial | dials | epoch | " + " | ".join(columns) + " |")
    print("| --: | --- | --: " + "| --: " * len(columns) + "|")
    worst = {"train/loss": 0.0, "val/auc": 0.0}
    for number, record in sorted(first.items()):
        dials = f"{record.config['loss.name']}, lr {record.config['optim.lr']:.6f}"
        for at, epoch in enumerate(record.epochs):
            cells = []
            for metric in worst:
                values = []
                for workers in given.workers:
                    other = searches[workers][number]
                    assert other.config["loss.name"] == record.config["loss.name"]
                    assert other.state == record.state
                    values.append(other.epochs[at][metric])
                cells += [f"{value:.6f}" for value in values]
                worst[metric] = max(worst[metric], *(abs(v - epoch[metric]) for v in values))
            print(f"| {number} | {dials} | {at + 1} | {' | '.join(cells)} |")
    rates = [
        abs(other[number].config["optim.lr"] / record.config["optim.lr"] - 1)
        for other in searches.values()
        for number, record in first.items()
    ]
    print(f"\nlargest difference: loss {worst['train/loss']:.2e}, AUC {worst['val/auc']:.2e}, "
          f"proposed learning rate {max(rates):.2e} of it")  # fmt: skip


if __name__ == "__main__":
    main()
