"""Where each rank of an attempt belongs, and what it holds."""

from agent.site.state import ranks_of
from tests.agent.site.builders import launch

KEY = "job-a.1"


def test_ranks_on_one_node_divide_its_gpus() -> None:
    what = launch("n01", "n02", tasks=2)
    for placed in what.nodes:
        placed.gpu_indices[:] = [4, 5, 6]
    places = [(r.number, r.slot, r.local_rank, r.gpus) for r in ranks_of(KEY, what)]
    assert places == [
        (0, "n01", 0, (4,)),
        (1, "n01", 1, (5, 6)),
        (2, "n02", 0, (4,)),
        (3, "n02", 1, (5, 6)),
    ]
