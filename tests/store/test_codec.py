"""Stored JSON: canonical, and the same value when read again."""

import pytest

from scheduler.model.fleet import Node, NodeReport, Site
from scheduler.model.ids import node_id
from scheduler.model.plan import JobClass
from scheduler.model.residency import Policy
from scheduler.model.tenancy import Tenant
from scheduler.store.codec import canonical, decode, encode
from tests.store.builders import LONDON, job_class, node, report, site, tenants


@pytest.mark.parametrize(
    "value",
    [
        site(),
        node("n01"),
        report(node_id(LONDON, "n01")),
        job_class(),
        Policy(fact_max_age_ms=5),
        *tenants(limit_milli=8000),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_was_written_is_read_again(
    value: Site | Node | NodeReport | JobClass | Policy | Tenant,
) -> None:
    assert decode(type(value), encode(value)) == value


def test_a_field_added_since_has_its_default() -> None:
    assert decode(Policy, '{"revision":3}') == Policy(revision=3)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": [1, True, None], "a": "x"}, '{"a":"x","b":[1,true,null]}'),
        ({"é": "\n\u2028"}, '{"é":"\\n\u2028"}'),
        ((), "[]"),
    ],
)
def test_canonical_json_has_one_form(value: object, text: str) -> None:
    assert canonical(value) == text


@pytest.mark.parametrize("value", [1.5, 1 << 53, {1: 2}, b"x", "\ud800", {"a": object()}])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        canonical(value)
