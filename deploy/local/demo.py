"""The demo: stories told with the commands a person would type, each checked as it goes.

Nothing here reaches into the cluster: every step is `sovctl`, as a tenant or as the operator, and
a step that does not do what the story says ends the demo with exit code 1.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from deploy.local.cluster import MET_LAB, OPERATOR, TRUST_A, Cluster

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
STEP_S = 120
POLL_S = 0.3
NOT_VERIFIED, REFUSED, NOT_FOUND = 1, 3, 4  # Exit codes of sovctl.
HELLO = """import os
print("hello from", os.environ["SOV_JOB_ID"], "as user", os.getuid(),
      "with GPU", os.environ["CUDA_VISIBLE_DEVICES"])"""


class StoryError(Exception):
    """A step did not go as told."""


class Teller:
    """Runs commands in front of the reader."""

    def __init__(self, cluster: Cluster, console: Console) -> None:
        self._cluster = cluster
        self._console = console

    def chapter(self, title: str, text: str) -> None:
        """A heading and what is about to be shown."""
        self._console.print()
        self._console.rule(f"[bold]{title}", align="left")
        self._console.print(text, highlight=False)

    def run(self, who: str, *words: str, expect: int = 0) -> None:
        """A command whose output the reader sees."""
        self._console.print(
            f"\n[bold green]$ sovctl {self._typed(who, words)}", highlight=False, soft_wrap=True
        )
        self._console.file.flush()
        done = subprocess.run(self._command(who, words), env=self._env(), timeout=STEP_S)
        if done.returncode != expect:
            raise StoryError(
                f"sovctl {shlex.join(words)}: exit code {done.returncode}, want {expect}"
            )

    def submit(self, who: str, *words: str) -> str:
        """Submits a job and answers its id."""
        self._console.print(
            f"\n[bold green]$ sovctl {self._typed(who, ('submit', *words))}", highlight=False
        )
        job = self._answer(who, "-o", "name", "submit", *words).strip()
        self._console.print(job, highlight=False, soft_wrap=True)
        return job

    def job(self, who: str, job: str) -> dict[str, Any]:
        """A job as `-o json` has it."""
        return json.loads(self._answer(who, "-o", "json", "get", job))

    def wait_until(
        self, who: str, job: str, what: str, holds: Callable[[dict[str, Any]], bool]
    ) -> dict[str, Any]:
        """Looks at a job until something holds of it."""
        give_up_at = time.monotonic() + STEP_S
        while not holds(shown := self.job(who, job)):
            if time.monotonic() > give_up_at:
                raise StoryError(f"{job} is not {what}: {shown['state']} {shown['message']}")
            time.sleep(POLL_S)
        return shown

    def succeeds(self, who: str, job: str) -> None:
        """Waits for a job that has to succeed."""
        over = ("SUCCEEDED", "FAILED", "CANCELLED")
        shown = self.wait_until(who, job, "over", lambda one: one["state"] in over)
        if shown["state"] != "SUCCEEDED":
            raise StoryError(f"{job} is {shown['state']}: {shown['message']}")

    def _typed(self, who: str, words: tuple[str, ...]) -> str:
        context = "" if who == TRUST_A else f"--context {who} "
        home = f"{Path.cwd()}/"
        return context + shlex.join(words).replace(home, "")

    def _command(self, who: str, words: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "sovctl", "--context", who, *words]

    def _env(self) -> dict[str, str]:
        return {**os.environ, "SOVCTL_CONFIG": str(self._cluster.sovctl_config)}

    def _answer(self, who: str, *words: str) -> str:
        done = subprocess.run(
            self._command(who, words),
            env=self._env(),
            timeout=STEP_S,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise StoryError(f"sovctl {shlex.join(words)}: exit {done.returncode}: {done.stderr}")
        return done.stdout


def tell(cluster: Cluster, console: Console) -> None:
    """All stories, in an order in which each finds the fleet as it needs it."""
    teller = Teller(cluster, console)
    look_around(teller)
    one_gpu(teller)
    gang = gang_of_two(teller)
    waiting = waits_for_the_right_owner(teller)
    both_ranks(teller, gang)
    has_room_again(teller, waiting)
    over_quota(teller, gang)
    refused(teller)
    policy_refused(teller)
    checked_by_a_stranger(teller, waiting)


def look_around(teller: Teller) -> None:
    """The fleet as the operator sees it."""
    teller.chapter(
        "The fleet",
        "Three sites: a UK exchange under UK control, a UK hall whose ultimate parent is in the "
        "US, and one in Norway. Each has its own Ray cluster, site agent and node agents.",
    )
    teller.run(OPERATOR, "sites")
    teller.run(OPERATOR, "nodes")


def one_gpu(teller: Teller) -> None:
    """One process on one GPU, with its log."""
    teller.chapter("One GPU", "The smallest job. Its log comes straight from the site.")
    teller.run(
        TRUST_A,
        *("submit", "--name", "hello", "--gpus", "1", "--follow", "--", "python3", "-c", HELLO),
    )


def gang_of_two(teller: Teller) -> str:
    """A gang that takes the whole UK-controlled site."""
    teller.chapter(
        "A gang of two nodes",
        "It trains a small model across two nodes, both or neither, and fills the exchange.",
    )
    gang = teller.submit(TRUST_A, str(EXAMPLES / "train" / "job.yaml"))
    teller.wait_until(TRUST_A, gang, "running", lambda job: job["state"] == "RUNNING")
    return gang


def waits_for_the_right_owner(teller: Teller) -> str:
    """A job that would fit at the US-owned hall, and may not go there."""
    teller.chapter(
        "Waiting for the right owner",
        "Patient scans tolerate no foreign compulsion. The hall stands empty, and they wait.",
    )
    scans = teller.submit(
        TRUST_A,
        *("--name", "scans", "--gpus", "4", "--", "python3", "-c", 'print("scans read")'),
    )
    teller.wait_until(TRUST_A, scans, "queued with a reason", lambda job: bool(job["reason"]))
    if (state := teller.job(TRUST_A, scans)["state"]) != "QUEUED":
        raise StoryError(f"{scans} is {state}; it was to wait for the UK-controlled site")
    teller.run(TRUST_A, "explain", scans)
    return scans


def both_ranks(teller: Teller, gang: str) -> None:
    """The gang's logs, and its end."""
    teller.chapter(
        "Both ranks",
        "The gang's logs as they are written. The loss falls, the same on both: they are in step.",
    )
    teller.run(TRUST_A, "logs", gang, "--rank", "all", "--follow")
    teller.succeeds(TRUST_A, gang)
    teller.run(TRUST_A, "get", gang)


def has_room_again(teller: Teller, waiting: str) -> None:
    """The job that waited for the right site runs there."""
    teller.chapter(
        "And the job that waited",
        "The gang is over and the UK-controlled site has room again: the scans were read there.",
    )
    teller.succeeds(TRUST_A, waiting)
    if (site := teller.job(TRUST_A, waiting)["attempts"][-1]["site"]) != "exch-london-1":
        raise StoryError(f"{waiting} ran at {site}")
    teller.run(TRUST_A, "list")


def refused(teller: Teller) -> None:
    """A job that no site may ever hold."""
    teller.chapter(
        "Refused, with every reason",
        "Two whole nodes of 8 GPUs under UK law: only Norway has them. It could never run, so it "
        "is refused now and not queued for ever.",
    )
    teller.run(
        TRUST_A,
        *("submit", "--name", "too-big", "--nodes", "2", "--gpus", "8", "--", "true"),
        expect=REFUSED,
    )


def policy_refused(teller: Teller) -> None:
    """A change of policy that would let through what the one in force does not."""
    teller.chapter(
        "A change of policy, refused",
        "Somebody drops the rule that keeps patients' data in the United Kingdom. The change is "
        "not proved no looser: a solver finds work and a site that would be let through.",
    )
    file = str(EXAMPLES / "policy-without-the-rule.yaml")
    teller.run(OPERATOR, "policy", "apply", file, expect=REFUSED)


def over_quota(teller: Teller, of_another: str) -> None:
    """A second tenant, at its limit."""
    teller.chapter(
        "At the limit",
        "Another tenant, whose limit is 2 GPUs, submits two jobs of 2. The second waits for the "
        "first. And what is not theirs is not there.",
    )
    two = ("--gpus", "2", "--tolerate", "US", "--")
    sleep = 'import time; time.sleep(5); print("forecast done")'
    first = teller.submit(MET_LAB, "--name", "forecast-1", *two, "python3", "-c", sleep)
    second = teller.submit(MET_LAB, "--name", "forecast-2", *two, "python3", "-c", sleep)
    teller.wait_until(MET_LAB, second, "waiting", lambda job: job["reason"] == "QUOTA_LIMIT")
    teller.run(MET_LAB, "explain", second)
    teller.run(MET_LAB, "quota")
    teller.succeeds(MET_LAB, first)
    teller.succeeds(MET_LAB, second)
    teller.run(MET_LAB, "list")
    teller.run(MET_LAB, "get", of_another, expect=NOT_FOUND)


def checked_by_a_stranger(teller: Teller, job: str) -> None:
    """The certificate of the job that waited, verified offline; and one that was tampered with."""
    teller.chapter(
        "Checked by a stranger",
        "The scans' residency certificate: where they were, under whose law, and that the log "
        "holds it. Whoever has the trust file checks it offline. One byte changed, and it is "
        "worth nothing.",
    )
    with tempfile.TemporaryDirectory(prefix="sov-demo-") as folder:
        trust, certificate = f"{folder}/trust", Path(folder) / "scans.residency.json"
        teller.run(TRUST_A, "audit", "trust", "-o", trust)
        teller.run(TRUST_A, "certificate", job, "-o", str(certificate))
        teller.run(TRUST_A, "verify", str(certificate), "--trust", trust)
        whole = bytearray(certificate.read_bytes())
        whole[len(whole) // 2] ^= 1
        certificate.write_bytes(whole)
        teller.run(TRUST_A, "verify", str(certificate), "--trust", trust, expect=NOT_VERIFIED)
    teller.run(TRUST_A, "certificates", "list")
