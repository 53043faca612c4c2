"""One scrape: figures under names of the table, turned into what prometheus-client writes."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family

from alerts.metrics.table import BY_NAME, METRICS, Metric
from storage.measures import Buckets

Labels = tuple[str, ...]


class Sheet:
    """Filled in by whoever knows something; what nobody knows is left out rather than shown as 0."""

    def __init__(self) -> None:
        self._values: dict[str, dict[Labels, float | Buckets]] = {}

    def put(self, name: str, value: float | Buckets | None, *labels: str) -> None:
        """Note a figure; None: it is not known.

        Args:
            name: of the table.
            value: of one moment, or so far; for a histogram its buckets.
            labels: values, in the table's order.
        """
        if value is None:
            return
        if len(labels) != len(BY_NAME[name].labels):
            raise ValueError(f"{name} has the labels {BY_NAME[name].labels}, not {labels}")
        self._values.setdefault(name, {})[labels] = value

    def families(self) -> Iterator[Family]:
        """What was noted, in the table's order."""
        for metric in METRICS:
            if metric.name in self._values:
                yield _family(metric, self._values[metric.name])


def _family(metric: Metric, values: dict[Labels, float | Buckets]) -> Family:
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, seen in values.items():
            if isinstance(seen, Buckets):
                histogram.add_metric(labels, seen.cumulative(), seen.sum)
        return histogram
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in values.items():
        if not isinstance(value, Buckets):
            family.add_metric(labels, value)
    return family
