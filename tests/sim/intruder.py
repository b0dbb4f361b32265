"""Somebody on the line to a site who holds no key that grants: adds rows to what the site is told.

Invented attempts of jobs that the line has carried, with the grant of the real one or with none,
and rows of before, as they were. Never one that the site has now: who may change those can keep a
site from what it is told for ever, and no signature helps against that.
"""

from __future__ import annotations

from collections import defaultdict, deque

from sovapi.v1 import sitelink_pb2 as sitelink
from sovapi.v1.sitelink_pb2 import ControlMessage, DesiredAttempt
from tests.sim.seeds import Dice

ROWS_KEPT = 200
INVENTED = 50
"""Added to an attempt's number: no job of a run comes so far."""


class Intruder:
    """Listens always, and meddles while it is told to."""

    def __init__(self, dice: Dice) -> None:
        self._dice = dice
        self._heard: defaultdict[str, deque[DesiredAttempt]] = defaultdict(
            lambda: deque(maxlen=ROWS_KEPT)
        )
        self.meddling = False

    def carry(self, site: str, content: bytes) -> bytes:
        """What becomes of bytes on their way to a site."""
        message = ControlMessage.FromString(content)
        if message.WhichOneof("message") != "desired":
            return content
        heard = self._heard[site]
        if self.meddling and heard:
            self._add(message.desired, self._dice.pick(list(heard)))
        for row in message.desired.attempts:
            if row.action == sitelink.DESIRED_ACTION_RUN and row.attempt < INVENTED:
                heard.append(row)
        return message.SerializeToString(deterministic=True)

    def _add(self, word: sitelink.Desired, before: DesiredAttempt) -> None:
        told = {(row.job_id, row.attempt) for row in word.attempts}
        row = DesiredAttempt()
        row.CopyFrom(before)
        match self._dice.pick(("invent", "strip", "replay")):
            case "invent":
                row.attempt += INVENTED
                row.generation = word.to_generation
            case "strip":
                row.attempt += INVENTED
                row.generation = word.to_generation
                row.launch.ClearField("grant")
            case _:
                pass  # As it was.
        if (row.job_id, row.attempt) not in told:
            word.attempts.append(row)
