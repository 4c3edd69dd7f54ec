"""Panels as our dashboards use them, made with Grafana's own builders.

Not here: what they show (one file per dashboard), where they stand (`board`). Invariants: every panel says what it shows, has a unit,
and asks the data source that is picked above it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statetimeline, table, text, timeseries
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import text as text_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
GOOD, WARN, BAD = "green", "orange", "red"

# Steps of a threshold: from which value on which colour. The first has no value: it is the colour below all others.
Steps = list[tuple[float | None, str]]
NEUTRAL: Steps = [(None, "blue")]
# A success, as a share.
SUCCESS: Steps = [(None, BAD), (0.995, WARN), (0.999, GOOD)]
# What should not happen.
NONE_IS_GOOD: Steps = [(None, GOOD), (0.000001, BAD)]


def from_to(warn: float, bad: float) -> Steps:
    """Good below the first value, bad from the second on."""
    return [(None, GOOD), (warn, WARN), (bad, BAD)]


@dataclass(frozen=True)
class Query:
    """One expression, and what its series are called."""

    expr: str
    legend: str = "__auto"


@dataclass(frozen=True)
class Column:
    """A column of a table that a query fills; without a title the query only says which rows there are."""

    title: str
    expr: str
    unit: str
    steps: Steps | None = None


def listed(expr: str) -> Column:
    """What only says which rows there are."""
    return Column("", expr, "none")


@dataclass(frozen=True)
class Sized:
    """A panel and its size on a grid of 24 columns."""

    panel: Any
    width: int
    height: int

    def wide(self, width: int, height: int | None = None) -> Sized:
        """The same in another size."""
        return replace(self, width=width, height=height or self.height)


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    stacked: bool = False,
    limits: Steps | None = None,
    link: dashboard.DashboardLink | None = None,
    most: float | None = None,
    colors: dict[str, str] | None = None,
) -> Sized:
    """Series over time; stacked where their sum means something. Limits are drawn as lines; `colors` has those of certain series."""
    panel = _of_series(timeseries.Panel(), title, description, unit, queries)
    panel.legend(_legend()).tooltip(_tooltip()).min(0).line_width(1).fill_opacity(60 if stacked else 8)
    panel.show_points(common_models.VisibilityMode.NEVER)
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
    if most is not None:
        panel.max(most)
    panel.thresholds(_thresholds(limits or NEUTRAL))
    if limits:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(common_models.GraphTresholdsStyleMode.DASHED))
    if link:
        panel.data_links([link])
    for name, color in (colors or {}).items():
        fixed = {"mode": "fixed", "fixedColor": color}
        panel.override_by_name(name, [models.DynamicConfigValue(id_val="color", value=fixed)])
    return Sized(panel, 8, 8)


def number(
    title: str,
    description: str,
    unit: str,
    expr: str,
    steps: Steps,
    decimals: int | None = None,
    empty: str = "no traffic",
    link: dashboard.DashboardLink | None = None,
) -> Sized:
    """One number, coloured by where it stands, over its recent course."""
    panel = _of_series(stat.Panel(), title, description, unit, (Query(expr, title),))
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    panel.graph_mode(common_models.BigValueGraphMode.AREA).color_mode(common_models.BigValueColorMode.VALUE)
    panel.thresholds(_thresholds(steps)).no_value(empty)
    if decimals is not None:
        panel.decimals(decimals)
    if link:
        panel.data_links([link])
    return Sized(panel, 4, 4)


def total(title: str, description: str, unit: str, expr: str, steps: Steps, empty: str = "none") -> Sized:
    """One number about the whole time that the dashboard shows."""
    panel = stat.Panel().title(title).description(description).unit(unit).datasource(SOURCE)
    panel.targets([_target(0, expr, title).instant()])
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    panel.graph_mode(common_models.BigValueGraphMode.NONE).color_mode(common_models.BigValueColorMode.VALUE)
    panel.thresholds(_thresholds(steps)).no_value(empty)
    return Sized(panel, 4, 4)


def states(title: str, description: str, query: Query, values: dict[str, tuple[str, str]]) -> Sized:
    """A bar for each series, coloured by its state; `values` has the text and the colour of each value."""
    panel = _of_series(statetimeline.Panel(), title, description, "none", (query,))
    panel.mappings([_mapping(values)]).thresholds(_thresholds(NEUTRAL)).merge_values(True).row_height(0.9)
    panel.show_value(common_models.VisibilityMode.NEVER).legend(_legend()).tooltip(_tooltip())
    panel.no_value("none")
    return Sized(panel, 12, 8)


def rows(
    title: str,
    description: str,
    labels: dict[str, str],
    *columns: Column,
    sort: str = "",
    link: tuple[str, dashboard.DashboardLink] | None = None,
    empty: str = "none",
) -> Sized:
    """A table: a row for each set of labels, a column for each query. `labels` has the title of each label's column."""
    panel = table.Panel().title(title).description(description).datasource(SOURCE).unit("none").no_value(empty)
    targets = [
        _target(at, column.expr, column.title or title).instant().format(PromQueryFormat.TABLE)
        for at, column in enumerate(columns)
    ]
    panel.targets(targets).thresholds(_thresholds(NEUTRAL))
    order = {label: at for at, label in enumerate(labels)}
    names = dict(labels)
    for at, column in enumerate(columns):
        if not column.title:
            continue
        value = f"Value #{_letter(at)}" if len(columns) > 1 else "Value"
        order[value], names[value] = len(order), column.title
        panel.override_by_name(column.title, _cell(column))
    if len(columns) > 1:
        panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(
        models.DataTransformerConfig(id_val="filterFieldsByName", options={"include": {"names": list(order)}})
    )
    organize = {"excludeByName": {}, "indexByName": order, "renameByName": names}
    panel.with_transformation(models.DataTransformerConfig(id_val="organize", options=organize))
    if link:
        panel.override_by_name(labels[link[0]], [models.DynamicConfigValue(id_val="links", value=[link[1].build()])])
    panel.sort_by(
        [common.TableSortByFieldState().display_name(sort or columns[0].title or next(iter(labels.values()))).desc(True)]
    )
    return Sized(panel, 12, 8)


def words(title: str, description: str, markdown: str) -> Sized:
    """A text."""
    panel = text.Panel().title(title).description(description).mode(text_models.TextMode.MARKDOWN).content(markdown)
    return Sized(panel, 24, 8)


def _of_series(panel: Any, title: str, description: str, unit: str, queries: tuple[Query, ...]) -> Any:
    panel.title(title).description(description).unit(unit).datasource(SOURCE)
    return panel.targets([_target(at, query.expr, query.legend).range() for at, query in enumerate(queries)])


def _target(at: int, expr: str, legend: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().ref_id(_letter(at)).expr(expr).legend_format(legend).datasource(SOURCE)


def _letter(at: int) -> str:
    return chr(ord("A") + at)


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    made = [models.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(made)


def _cell(column: Column) -> list[models.DynamicConfigValue]:
    cell = [models.DynamicConfigValue(id_val="unit", value=column.unit)]
    if column.steps:
        cell.append(models.DynamicConfigValue(id_val="thresholds", value=_thresholds(column.steps).build()))
        cell.append(models.DynamicConfigValue(id_val="color", value={"mode": "thresholds"}))
        cell.append(models.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}))
    return cell


def _mapping(values: dict[str, tuple[str, str]]) -> models.ValueMap:
    options = {
        value: models.ValueMappingResult(text=words, color=color, index=at)
        for at, (value, (words, color)) in enumerate(values.items())
    }
    return models.ValueMap(options=options)


def _legend() -> common.VizLegendOptions:
    legend = common.VizLegendOptions().show_legend(True).placement(common_models.LegendPlacement.BOTTOM)
    return legend.display_mode(common_models.LegendDisplayMode.LIST)


def _tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI).sort(common_models.SortOrder.DESCENDING)
