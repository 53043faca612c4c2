"""Where alerts are told: one file a kind, loaded when a configuration names it."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from alerts.config import AlertsConfig, SinkConfig
from alerts.errors import SinkError
from alerts.sinks.base import Sink, address, public_name
from storage.records import Change

SINKS = {
    "log": "alerts.sinks.log:LogSink",
    "json": "alerts.sinks.webhook:Webhook",
    "jsons": "alerts.sinks.webhook:Webhook",
    "mqtt": "alerts.sinks.mqtt:MqttSink",
}
"""Scheme of the url -> module:class, called with the SinkConfig."""


def open_sink(config: SinkConfig) -> Sink:
    """Open a sink; nothing is sent and nothing connected yet.

    Raises:
        SinkError: the url names no kind that exists, or lacks something.
    """
    module, name = SINKS[_scheme(config)].split(":")
    factory: Any = getattr(import_module(module), name)
    sink: Sink = factory(config)
    return sink


def sink_names(sinks: Sequence[SinkConfig]) -> list[str]:
    """Name each sink, in order; the second of two at the same address is `…~2`.

    Raises:
        SinkError: a url is wrong.
    """
    names: list[str] = []
    for config in sinks:
        scheme, url = _scheme(config), urlsplit(config.url)
        name = scheme if scheme == "log" else public_name(url)
        times = sum(known == name or known.startswith(f"{name}~") for known in names)
        names.append(f"{name}~{times + 1}" if times else name)
    return names


def audience(config: AlertsConfig) -> dict[Change, list[str]]:
    """Change -> names of the sinks that want to be told of it.

    Raises:
        SinkError: a url is wrong.
    """
    named = list(zip(sink_names(config.sinks), config.sinks, strict=True))
    return {change: [name for name, sink in named if change.value in sink.on] for change in Change}


def _scheme(config: SinkConfig) -> str:
    scheme, colon, _ = config.url.partition(":")
    if not colon or scheme not in SINKS:
        raise SinkError(f"sink {scheme!r} is unknown: write log:, json://…, jsons://… or mqtt://…")
    if scheme != "log":
        address(urlsplit(config.url))
    return scheme
