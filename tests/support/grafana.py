"""`make dashboards`: config/grafana/dashboards, of tests/support/dashboards.py; tests hold that the files are these."""

from __future__ import annotations

import json
from typing import Any

from tests.support.dashboards import DASHBOARDS
from tests.support.panels import Panel
from tests.support.paths import REPOSITORY

FOLDER = REPOSITORY / "config" / "grafana" / "dashboards"
_COLUMNS, _HEIGHT = 3, 7


def dashboard(name: str) -> dict[str, Any]:
    """As Grafana 9.4 and later import it."""
    return {
        "uid": f"diarserve-{name}",
        "title": f"diarserve: {name}",
        "tags": ["diarserve"],
        "schemaVersion": 38,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}]
        },
        "links": [{"title": "diarserve", "type": "dashboards", "tags": ["diarserve"], "asDropdown": True}],
        "panels": [_panel(number, panel) for number, panel in enumerate(DASHBOARDS[name])],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    row, column = divmod(number, _COLUMNS)
    width = 24 // _COLUMNS
    says = " ".join(filter(None, (panel.says, panel.needs and f"Needs {panel.needs}.")))
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": says,
        "datasource": source,
        "gridPos": {"x": column * width, "y": row * _HEIGHT, "w": width, "h": _HEIGHT},
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 10, "showPoints": "never"}},
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": source,
                "expr": query,
                "legendFormat": legend,
                "exemplar": "_bucket" in query,
            }
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def text(name: str) -> str:
    """Of the dashboard's file."""
    return json.dumps(dashboard(name), indent=1) + "\n"


def main() -> None:
    for name in DASHBOARDS:
        (FOLDER / f"{name}.json").write_text(text(name))


if __name__ == "__main__":
    main()
