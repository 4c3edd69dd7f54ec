"""A dashboard: variables, links, annotations, and rows of panels on the grid.

Not here: the panels themselves. Invariants: every dashboard has its own uid, every panel an id that follows from its place, and each has
the links to all the others and to the runbook.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

from .panels import SOURCE, Sized

COLUMNS = 24
TAG = "perpetuo"
RUNBOOK_UID = "perpetuo-runbook"
# Everything, labels that are absent included.
ANYTHING = ".*"


@dataclass(frozen=True)
class Row:
    """Panels under one heading, from left to right."""

    title: str
    panels: list[Sized]


@dataclass(frozen=True)
class Picker:
    """A variable that is filled from a label."""

    name: str
    label: str
    query: str
    all_value: str | None = ANYTHING


# `process_…` exists for other programs, too, so that "all" must mean all gateways here.
JOB = Picker("job", "Deployment", "label_values(perpetuo_build_info, job)", None)
INSTANCE = Picker("instance", "Instance", 'label_values(perpetuo_build_info{job=~"$job"}, instance)', None)
WORKSPACE = Picker("workspace", "Workspace", 'label_values(perpetuo_requests_total{job=~"$job"}, workspace)')
PROVIDER = Picker("provider", "Provider", 'label_values(perpetuo_attempts_total{job=~"$job"}, provider)')
MODEL = Picker("model", "Model", 'label_values(perpetuo_attempts_total{job=~"$job"}, model)')


@dataclass(frozen=True)
class Board:
    """One dashboard."""

    name: str
    title: str
    description: str
    # What can be picked beside deployment and instance; None where no figures are shown.
    pickers: list[Picker] | None
    rows: list[Row]
    since: str = "now-3h"
    refresh: str = "30s"

    @property
    def uid(self) -> str:
        return f"perpetuo-{self.name}"

    def build(self) -> models.Dashboard:
        """The dashboard as Grafana reads it."""
        made = dashboard.Dashboard(self.title).uid(self.uid).description(self.description).tags([TAG])
        made.time(self.since, "now").refresh(self.refresh).timezone("browser").editable()
        made.tooltip(models.DashboardCursorSync.CROSSHAIR).links(_links())
        if self.pickers is not None:
            made.variables([_datasource(), *map(_variable, [JOB, INSTANCE, *self.pickers])])
        built = made.build()
        built.panels = _placed(self.rows)
        built.annotations = models.AnnotationContainer(list_val=_annotations() if self.pickers is not None else [])
        return built


def to(name: str, title: str, **variables: str) -> dashboard.DashboardLink:
    """A link from a value to another dashboard, in the same time and with the same choice, but for `variables`."""
    kept = [f"${{{variable}:queryparam}}" for variable in ("datasource", "job", "instance")]
    given = [f"var-{variable}={value}" for variable, value in variables.items()]
    url = f"/d/perpetuo-{name}?{'&'.join((*kept, *given))}&${{__url_time_range}}"
    return dashboard.DashboardLink(title).url(url)


def _placed(rows: list[Row]) -> list[Any]:
    placed: list[Any] = []
    bottom = 0
    for row in rows:
        if row.title:
            heading = dashboard.Row(row.title).id(len(placed) + 1).collapsed(False)
            heading.grid_pos(models.GridPos(h=1, w=COLUMNS, x=0, y=bottom))
            placed.append(heading.build())
            bottom += 1
        left, lowest = 0, bottom
        for sized in row.panels:
            if left + sized.width > COLUMNS:
                left, bottom = 0, lowest
            position = models.GridPos(h=sized.height, w=sized.width, x=left, y=bottom)
            placed.append(sized.panel.id(len(placed) + 1).grid_pos(position).build())
            left, lowest = left + sized.width, max(lowest, bottom + sized.height)
        bottom = lowest
    return placed


def _links() -> list[dashboard.DashboardLink]:
    others = dashboard.DashboardLink("Perpetuo").type(models.DashboardLinkType.DASHBOARDS).tags([TAG])
    return [others.as_dropdown(False).include_vars(True).keep_time(True).icon("external link")]


def _datasource() -> dashboard.DatasourceVariable:
    return dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")


def _variable(picker: Picker) -> dashboard.QueryVariable:
    query = {"query": picker.query, "refId": f"{picker.name}-values"}
    made = dashboard.QueryVariable(picker.name).label(picker.label).query(query).datasource(SOURCE)
    made.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)
    made.multi(True).include_all(True).current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
    return made.all_value(picker.all_value) if picker.all_value else made


class Moments:
    """An annotation at the moments that a metric says in seconds."""

    def __init__(self, name: str, metric: str, color: str, text: str):
        self.fields = {
            "name": name, "enable": True, "hide": False, "iconColor": color, "datasource": SOURCE,
            "expr": f'{metric}{{job=~"$job", instance=~"$instance"}} * 1000', "useValueForTime": True, "step": "60s",
            "titleFormat": name, "textFormat": text,
        }  # fmt: skip

    def to_json(self) -> dict[str, object]:
        """The builders have no word for `useValueForTime`."""
        return self.fields


def _annotations() -> list[Any]:
    return [
        Moments("Restart", "process_start_time_seconds", "purple", "{{job}} {{instance}} started"),
        Moments(
            "Configuration",
            "perpetuo_config_last_success_timestamp_seconds",
            "blue",
            "{{job}} {{instance}} loaded its configuration",
        ),
    ]
