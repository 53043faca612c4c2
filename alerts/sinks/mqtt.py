"""Alerts as MQTT messages of quality of service 1: delivered when the broker has acknowledged them."""

import threading
from typing import Any
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from alerts.config import SinkConfig
from alerts.errors import SinkError
from alerts.sinks.base import message, public_name
from storage.deliveries import Delivery

_PORT = 1883


class MqttSink:
    """Publishes to `mqtt://[USER:PASS@]HOST[:PORT]/TOPIC`."""

    def __init__(self, config: SinkConfig) -> None:
        url = urlsplit(config.url)
        self.name = public_name(url)
        self._topic = unquote(url.path.removeprefix("/"))
        if not self._topic or set(config.url) & set("#?") or set(self._topic) & set("+#?\0"):
            raise SinkError(f"sink {self.name}: needs a topic without + # ?: write mqtt://HOST[:PORT]/TOPIC")
        self._host, self._port = str(url.hostname), url.port or _PORT
        self._user = None if url.username is None else unquote(url.username)
        self._password = None if url.password is None else unquote(url.password)
        self._timeout_s = config.timeout
        self._client: paho.Client | None = None

    def deliver(self, delivery: Delivery) -> None:
        """Publish one message and wait for the broker's acknowledgement.

        Raises:
            SinkError: no connection, refused, or not acknowledged in time. The connection is then given up, so that
                nothing is sent behind the outbox's back.
        """
        try:
            self._publish(message(delivery))
        except (OSError, ValueError, RuntimeError) as error:  # what paho raises
            self.close()
            raise SinkError(f"sink {self.name}: {error or type(error).__name__}") from error
        except SinkError:
            self.close()
            raise

    def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None

    def _publish(self, payload: bytes) -> None:
        client = self._client or self._connect()
        sent = client.publish(self._topic, payload, qos=1)
        sent.wait_for_publish(self._timeout_s)
        if not sent.is_published():
            raise SinkError(f"sink {self.name}: the broker did not acknowledge within {self._timeout_s:g} s")

    def _connect(self) -> paho.Client:
        answered, answer = threading.Event(), list[Any]()

        def on_connect(_client: Any, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            answer.append(reason)
            answered.set()

        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.on_connect = on_connect
        client.connect_timeout = max(self._timeout_s, 0.1)
        if self._user is not None:
            client.username_pw_set(self._user, self._password)
        self._client = client
        client.connect(self._host, self._port)
        client.loop_start()
        if not answered.wait(self._timeout_s):
            raise SinkError(f"sink {self.name}: the broker did not answer within {self._timeout_s:g} s")
        if answer[0].is_failure:
            raise SinkError(f"sink {self.name}: the broker refuses: {answer[0]}")
        return client
