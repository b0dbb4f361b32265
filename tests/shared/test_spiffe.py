"""Names of callers and servers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovshared import spiffe
from sovshared.spiffe import Name, NameInvalid, NameRole

TD = "sov.example"


@pytest.mark.parametrize(
    ("path", "want"),
    [
        (
            "/tenant/trust-a/radiology/user/ada",
            Name(
                NameRole.TENANT,
                "/tenant/trust-a/radiology/user/ada",
                tenant="trust-a/radiology",
                user="ada",
            ),
        ),
        (
            "/site/exch-london-1/agent",
            Name(NameRole.SITE, "/site/exch-london-1/agent", site="exch-london-1"),
        ),
        ("/site/a/node/n01", Name(NameRole.NODE, "/site/a/node/n01", site="a", slot="n01")),
        ("/operator/olga", Name(NameRole.OPERATOR, "/operator/olga", user="olga")),
        ("/auditor/ann", Name(NameRole.AUDITOR, "/auditor/ann", user="ann")),
        ("/monitor/prom", Name(NameRole.MONITOR, "/monitor/prom", user="prom")),
        ("/control-plane", Name(NameRole.CONTROL_PLANE, "/control-plane")),
    ],
)
def test_a_name_parses_and_prints_as_itself(path: str, want: Name) -> None:
    assert spiffe.parse_path(path) == want
    assert spiffe.parse(want.uri(TD), TD) == want


@pytest.mark.parametrize(
    "uri",
    [
        pytest.param("spiffe://other.example/operator/olga", id="another trust domain"),
        pytest.param("spiffe://sov.example.evil/operator/olga", id="a longer trust domain"),
        pytest.param("spiffe://sov.example", id="no path"),
        pytest.param("https://sov.example/operator/olga", id="another scheme"),
        pytest.param("spiffe://sov.example/operator/olga/", id="a trailing slash"),
        pytest.param("spiffe://sov.example/operator/", id="an empty word"),
        pytest.param("spiffe://sov.example/operator/../x", id="dots for a way up"),
        pytest.param("spiffe://sov.example/operator/ol%67a", id="an escaped letter"),
        pytest.param("spiffe://sov.example/operator/OLGA", id="capitals"),
        pytest.param("spiffe://sov.example/operator/olga\n", id="a newline at the end"),
        pytest.param("spiffe://sov.example/operator/olga?x=1", id="a query"),
        pytest.param("spiffe://sov.example/operator/" + "a" * 64, id="too long a word"),
        pytest.param("spiffe://sov.example/tenant/a/b/c/d/e/user/x", id="too deep a tenant"),
        pytest.param("spiffe://sov.example/tenant/user/x", id="no tenant"),
        pytest.param("spiffe://sov.example/site/a/agent/b", id="more after an agent"),
        pytest.param("spiffe://sov.example/root", id="an unknown role"),
        pytest.param("", id="nothing"),
    ],
)
def test_anything_else_is_refused(uri: str) -> None:
    with pytest.raises(NameInvalid):
        spiffe.parse(uri, TD)


@given(st.text(max_size=80))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        name = spiffe.parse_path("/" + text)
    except NameInvalid:
        return
    assert name.path == "/" + text


def test_only_servers_have_a_dns_name_and_no_two_share_one() -> None:
    assert spiffe.server_dns_name(spiffe.control_plane(), TD) == "control-plane.sov.example"
    assert spiffe.server_dns_name(spiffe.site_agent("x"), TD) == "x.site.sov.example"
    assert spiffe.server_dns_name(spiffe.operator("olga"), TD) is None
    assert spiffe.server_dns_name(spiffe.node_agent("x", "n"), TD) is None


def test_the_name_that_agents_are_scraped_by_is_no_servers_own() -> None:
    shared = spiffe.metrics_dns_name(TD)
    assert shared == "metrics.sov.example"
    own = [spiffe.server_dns_name(n, TD) for n in (spiffe.control_plane(), spiffe.site_agent("m"))]
    assert shared not in own
    with pytest.raises(NameInvalid):
        spiffe.metrics_dns_name("Sov Example")
