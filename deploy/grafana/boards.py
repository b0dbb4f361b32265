"""Every board by the file that Grafana loads it from."""

from deploy.grafana.fleet_board import FLEET
from deploy.grafana.tenant_board import TENANTS

BOARDS = {"fleet.json": FLEET, "tenant.json": TENANTS}
