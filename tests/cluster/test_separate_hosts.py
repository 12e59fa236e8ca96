"""Searches across three hosts with addresses, processes and disks of their own, token on.

The one thing that is not real is Slurm. Where namespaces cannot be made the tests are skipped.
"""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from hosts import why_not
from separate_hosts import Outcome, slurm_job

from siamtune.search.records import read_records

pytestmark = [pytest.mark.ray, pytest.mark.hosts]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    if reason := why_not():
        pytest.skip(reason)
    outcome = slurm_job(tmp_path_factory.mktemp("separate"))
    assert outcome.code == 0, outcome.log
    return outcome


def test_a_folder_of_one_host_is_refused_before_the_first_epoch(outcome: Outcome) -> None:
    step = outcome.steps["unshared"]
    assert step.code == 6, step.stderr
    assert "is not seen on host2, host3; give a folder on a disk that all" in step.stderr
    assert "Traceback" not in step.stderr


def test_a_search_with_two_workers_a_trial_runs_across_hosts(outcome: Outcome) -> None:
    step = outcome.steps["pairs"]
    assert step.code == 0, step.stderr
    records = read_records(outcome.shared / "runs" / "pairs" / "trials.jsonl")
    # With one processor a host, two workers of a trial are on two of them.
    assert [record.state for record in records.values()] == ["complete"]


def test_a_job_searches_on_every_host_and_hands_back_its_id(outcome: Outcome) -> None:
    step = outcome.steps["alone"]
    assert step.code == 0, step.stderr
    assert re.fullmatch(r"raysubmit_\w+\n", step.stdout)
    assert outcome.steps["stop"].code == 0, outcome.steps["stop"].stderr
    assert "3 stopped" in step.stderr
    records = read_records(outcome.shared / "runs" / "alone" / "trials.jsonl")
    assert [record.state for record in records.values()] == ["stopped"] * 3
    worked = outcome.trials_by_host("alone")
    assert set(worked) == set(outcome.addresses)
    assert worked.total() == 3


def test_the_token_keeps_others_out_and_is_in_no_file_that_stays(outcome: Outcome) -> None:
    mode, token = outcome.steps["token"].stdout.split()
    assert (mode, len(token)) == ("600", 64)
    for path in outcome.shared.rglob("*"):
        assert not path.is_file() or token.encode() not in path.read_bytes(), path
    assert token not in outcome.log
    assert outcome.steps["outside"].code == 7  # of curl: nobody listens but on the loopback
    stranger = outcome.steps["stranger"]
    assert stranger.code == 6
    assert "wants the cluster's token, but got none" in stranger.stderr
