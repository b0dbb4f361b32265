"""How long a launch takes at a warm site: from *placed* to *processes started*.

Begins when the row of the outbox leaves the control plane for the site agent; ends when the first
statement of the last rank's own program runs, by that program's own clock. The program is an empty
Python process. In between lies everything that a launch is: the journal's writes, the guard, the
reservation in Ray, every rank's room in the spool, its uid, its namespaces and its start record.
One machine is the whole site: four raylets, four node agents.

Yardstick, by turns with it: Ray alone, on the same cell: a placement group of the same shape on the
same nodes, and a call of a resident actor on each that forks the same program, durable nowhere and
isolated by nothing. It begins when the group is asked for, and ends at the same statement of the
same program: what an interpreter takes to start is in both.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from pathlib import Path

from bench.launch_site import SLOTS, Site, running
from bench.record import Result

RUNS = 5
LAUNCHES_A_RUN = 6
WARM_UPS = 3
SETTLE_S = 0.5
"""Between two launches: what the one before left to clear up is not the next one's cost."""


def run(data: Path | None) -> Result:
    """The bench. It needs no data."""
    del data
    return asyncio.run(_measure(Path(tempfile.mkdtemp(prefix="sovl-"))))


async def _measure(root: Path) -> Result:
    async with running(root) as site:
        one, gang = await _rounds(site, 1), await _rounds(site, len(SLOTS))
    figures = {
        "p50_ms": round(one["own"], 1),
        "ratio_to_ray": round(one["own"] / one["ray"], 3),
        "told_p50_ms": round(one["told"], 1),
        "gang_p50_ms": round(gang["own"], 1),
        "gang_ratio_to_ray": round(gang["own"] / gang["ray"], 3),
        "gang_told_p50_ms": round(gang["told"], 1),
    }
    return Result(
        bench="launch",
        figures=figures,
        yardstick={"ray_p50_ms": round(one["ray"], 1), "ray_gang_p50_ms": round(gang["ray"], 1)},
        ratios={
            "ray_to_launch": round(one["ray"] / one["own"], 3),
            "ray_to_gang": round(gang["ray"] / gang["own"], 3),
        },
        runs=RUNS,
    )


async def _rounds(site: Site, nodes: int) -> dict[str, float]:
    """Medians over the runs' medians, ours and the yardstick's by turns."""
    for _ in range(WARM_UPS):
        await site.launch(nodes)
        await site.yardstick.launch_ms(nodes)
    medians: dict[str, list[float]] = {"own": [], "told": [], "ray": []}
    for _ in range(RUNS):
        found: dict[str, list[float]] = {name: [] for name in medians}
        for _ in range(LAUNCHES_A_RUN):
            await asyncio.sleep(SETTLE_S)
            launched = await site.launch(nodes)
            found["own"].append(launched.started_ms)
            found["told"].append(launched.told_ms)
            await asyncio.sleep(SETTLE_S)
            found["ray"].append(await site.yardstick.launch_ms(nodes))
        for name, values in found.items():
            medians[name].append(statistics.median(values))
    return {name: statistics.median(values) for name, values in medians.items()}
