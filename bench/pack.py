"""How full real nodes get under real requests before something has to be turned away.

Pods arrive one by one on nodes of many kinds until 130 % of the GPUs were asked for, and the share
of GPUs left unallocated is taken where 100 % were. FGD and best fit run first, in the same replay
and on the same orders: they have published figures, which show that the replay is right. Then the
placement score on exact node states, and the production planner itself. With departures: all
arrive, the earlier half of what was placed leaves, and all come once more. It takes minutes; each
order tells on the standard error what it came to.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bench import traces
from bench.policies.phi import Phi
from bench.policies.reference import BestFit, Fgd
from bench.record import Result
from bench.replay_pack import Packed, Policy, Replay, replay
from bench.replay_pack_planner import PlannerPlacer
from bench.traces import PackTrace

FOLDER = "openb_fgd"
WORKERS = 2
POLICIES: Mapping[str, Callable[[PackTrace], Policy]] = {
    "FGD": Fgd,
    "BestFit": BestFit,
    "score": Phi,
}
"""`score`: the placement score by itself, on exact states, the mix known from the start."""
PLANNER = "planner"
AFTER_CHURN = " after departures"
CHURNED = ("BestFit", "score", PLANNER)
AT_PCT = "100"

Found = Mapping[str, Mapping[str, Sequence[float]]]


def run(data: Path | None) -> Result:
    """The bench. `data`: a directory with a packing data set."""
    folder = traces.folder(data, FOLDER)
    names = traces.pack_names(folder)
    stated = traces.published(
        folder / "published_unallocated.csv", ("trace", "policy", "arrived_pct"), "unalloc_pct_mean"
    )
    found = _measure(folder, names)
    means = {
        what: {name: round(statistics.fmean(values), 3) for name, values in by_trace.items()}
        for what, by_trace in found.items()
    }
    own, fitted = means[PLANNER + AFTER_CHURN], means["BestFit" + AFTER_CHURN]
    return Result(
        bench="pack",
        figures={
            "unallocated_pct": means[PLANNER],
            "unallocated_pct_sd": {name: _sd(found[PLANNER][name]) for name in names},
            "after_departures_pct": own,
        },
        yardstick={
            **{f"{what}_pct": by_trace for what, by_trace in means.items() if PLANNER not in what},
            **{
                f"{policy}_published_pct": {
                    name: stated[name, policy, AT_PCT]
                    for name in names
                    if (name, policy, AT_PCT) in stated
                }
                for policy in ("FGD", "BestFit")
            },
        },
        ratios={
            "fgd_to_planner": _least(means["FGD"], means[PLANNER]),
            "fgd_to_score": _least(means["FGD"], means["score"]),
            "best_fit_to_planner_after_departures": _least(fitted, own),
        },
        runs=min(len(values) for values in found[PLANNER].values()),
    )


def _measure(folder: Path, names: Sequence[str]) -> Found:
    """Percent unallocated in every order, by what was measured and by trace."""
    orders = {name: sorted(traces.pack_trace(folder, name).orders) for name in names}
    # The planner first, an order at a time: it takes longest, and no process waits at the end.
    asked = [(folder, name, PLANNER, (order,)) for name in names for order in orders[name]]
    asked += [(folder, name, policy, tuple(orders[name])) for policy in POLICIES for name in names]
    found: dict[str, dict[str, list[float]]] = {}
    with ProcessPoolExecutor(WORKERS) as pool:
        for (_, name, policy, told), packed in zip(asked, pool.map(_orders, asked), strict=True):
            arrivals = [each.at_100_pct for each in packed]
            churned = [each.churned_pct for each in packed if each.churned_pct is not None]
            found.setdefault(policy, {}).setdefault(name, []).extend(arrivals)
            if churned:
                found.setdefault(policy + AFTER_CHURN, {}).setdefault(name, []).extend(churned)
            _tell(name, policy, told, arrivals, churned)
    return found


def _orders(asked: tuple[Path, str, str, tuple[str, ...]]) -> list[Packed]:
    folder, name, policy, orders = asked
    trace = traces.pack_trace(folder, name)
    if policy == PLANNER:
        return [replay(trace, trace.orders[each], PlannerPlacer(trace)) for each in orders]
    made, departures = POLICIES[policy](trace), policy in CHURNED
    return [
        replay(trace, trace.orders[each], Replay(trace, made), departures=departures)
        for each in orders
    ]


def _tell(
    name: str,
    policy: str,
    orders: Sequence[str],
    arrivals: Sequence[float],
    churned: Sequence[float],
) -> None:
    """A line for who waits."""
    which = orders[0] if len(orders) == 1 else f"{len(orders)} orders"
    after = f", {statistics.fmean(churned):.3f} %{AFTER_CHURN}" if churned else ""
    line = f"pack: {name}, {policy}, {which}: {statistics.fmean(arrivals):.3f} % unallocated{after}"
    print(line, file=sys.stderr, flush=True)


def _least(reference: Mapping[str, float], own: Mapping[str, float]) -> float:
    """Over the traces, the least ratio: above 1 means less is left unallocated on every one."""
    return round(min(reference[name] / own[name] for name in own), 4)


def _sd(values: Sequence[float]) -> float:
    return round(statistics.stdev(values), 3) if len(values) > 1 else 0.0
