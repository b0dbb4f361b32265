"""What the quota table shows of joint projects."""

from __future__ import annotations

from sovapi.v1 import tenants_pb2
from sovctl.cli import quota_tables


def line(tenant: str, **more: object) -> tenants_pb2.QuotaLine:
    return tenants_pb2.QuotaLine(tenant=tenant, gpu_class="H100", **more)  # type: ignore[arg-type]


def test_shares_have_a_column_where_there_are_any() -> None:
    plain = quota_tables.quota([line("a")])
    assert "SHARES" not in [column.header for column in plain.columns]
    of = tenants_pb2.Share(of="nrc", agreement="uk-ca", limit_milli=8_000, since_ms=1)
    later = tenants_pb2.Share(of="csa", agreement="later", limit_milli=500)
    shown = quota_tables.quota([line("met", shares=[of, later]), line("nrc", given_milli=8_000)])
    assert [column.header for column in shown.columns][-1] == "SHARES"
    assert [row[-1] for row in shown.rows] == [
        "8 of nrc, 0.5 of csa (not in force: later)",
        "gives 8",
    ]
    assert {len(row) for row in shown.rows} == {len(shown.columns)}
