import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
import structlog
from paho.mqtt.enums import CallbackAPIVersion

from alerts.config import AlertsConfig, SinkConfig
from alerts.errors import SinkError
from alerts.sinks import audience, open_sink, sink_names
from storage.deliveries import Delivery
from storage.records import Alert, AlertKind, Change, Transition

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")


@pytest.fixture
def delivery() -> Delivery:
    alert = Alert(id="a/1/7/defect", line="a", kind=AlertKind.DEFECT, text="Defect.", raised_ns=5, score=0.9)
    told = Transition(change=Change.RAISED, alert=alert, at_ns=5)
    return Delivery(id=1, sink="x", alert=alert.id, change=told.change, payload=told.model_dump_json(), attempts=0)


def sink(url: str, timeout: float = 5.0) -> SinkConfig:
    return SinkConfig(url=url, timeout=timeout)


# --- urls ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("smoke://signals", "sink 'smoke' is unknown: write log:, json://"),
        ("nothing", "sink 'nothing' is unknown"),
        ("json:///path", "names no host"),
        ("json://host:port/", "Port could not be cast"),
        ("jsons://user:secret@host:99999/", "Port out of range"),
        ("mqtt://host", "needs a topic"),
        ("mqtt://host/a/#", "needs a topic without"),
    ],
)
def test_a_wrong_url_is_one_clear_line(url: str, says: str) -> None:
    with pytest.raises(SinkError, match=says) as caught:
        open_sink(sink(url))
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_names_hold_no_secrets_and_differ() -> None:
    urls = ["log:", "jsons://u:secret@h/a?token=secret", "jsons://u:other@h/a", "mqtt://u:secret@h:1884/t", "log:"]
    assert sink_names([sink(url) for url in urls]) == [
        "log",
        "jsons://h/a",
        "jsons://h/a~2",
        "mqtt://h:1884/t",
        "log~2",
    ]


def test_audience() -> None:
    config = AlertsConfig(sinks=(SinkConfig(url="log:"), SinkConfig(url="json://h/", on=("cleared", "acknowledged"))))
    assert audience(config) == {
        Change.RAISED: ["log"],
        Change.CLEARED: ["log", "json://h/"],
        Change.ACKNOWLEDGED: ["json://h/"],
    }


# --- log -------------------------------------------------------------------------------------------------------


def test_log(delivery: Delivery) -> None:
    with structlog.testing.capture_logs() as lines:
        open_sink(sink("log:")).deliver(delivery)
    (line,) = lines
    assert line["event"] == "alert raised"
    assert line["log_level"] == "warning"
    assert (line["alert"], line["line"], line["text"]) == ("a/1/7/defect", "a", "Defect.")


# --- webhook ---------------------------------------------------------------------------------------------------


def test_webhook_fails_then_succeeds_with_the_same_key(receiver: Any, delivery: Delivery) -> None:
    receiver.answers = [503]
    hook = open_sink(sink(f"json://ann:pw@127.0.0.1:{receiver.server_port}/hook?x=1"))
    with pytest.raises(SinkError, match="answered 503"):
        hook.deliver(delivery)
    hook.deliver(delivery)
    hook.close()
    (_, first, _), (path, second, body) = receiver.got
    assert path == "/hook?x=1"
    assert first["Idempotency-Key"] == second["Idempotency-Key"] == "a/1/7/defect:raised"
    assert second["Content-Type"] == "application/json"
    assert second["Authorization"].startswith("Basic ")
    told = json.loads(body)
    assert told["key"] == "a/1/7/defect:raised"
    assert told["transition"] == "raised"
    assert told["alert"]["score"] == 0.9


def test_webhook_does_not_wait_for_ever(receiver: Any, delivery: Delivery) -> None:
    receiver.free.clear()
    hook = open_sink(sink(f"json://127.0.0.1:{receiver.server_port}/", timeout=0.1))
    began = time.monotonic()
    with pytest.raises(SinkError, match="timed out"):
        hook.deliver(delivery)
    assert time.monotonic() - began < 5
    hook.close()


def test_webhook_without_a_server(delivery: Delivery) -> None:
    hook = open_sink(sink(f"json://127.0.0.1:{free_port()}/"))
    with pytest.raises(SinkError, match="refused"):
        hook.deliver(delivery)
    hook.close()


# --- mqtt ------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Broker:
    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        passwords = folder / "passwords"
        passwords.touch(mode=0o600)
        tool = str(Path(str(MOSQUITTO)).with_name("mosquitto_passwd"))
        tool = tool if Path(tool).exists() else "/usr/bin/mosquitto_passwd"
        subprocess.run([tool, "-b", passwords, "ann", "p@ss"], check=True, capture_output=True)
        # As root the broker would change to a user of its own, who may not read the folder.
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous false", f"password_file {passwords}", "user root"]
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        with (self._folder / "log").open("wb") as said:
            command = [str(MOSQUITTO), "-c", str(self._folder / "mosquitto.conf")]
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError((self._folder / "log").read_text())

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.stop()


def test_mqtt_waits_for_the_acknowledgement_of_a_real_broker(broker: Broker, delivery: Delivery) -> None:
    got: list[tuple[str, bytes, int]] = []
    ready, arrived = threading.Event(), threading.Event()
    listener = paho.Client(CallbackAPIVersion.VERSION2)
    listener.username_pw_set("ann", "p@ss")
    listener.on_subscribe = lambda *_: ready.set()
    listener.on_message = lambda _c, _u, m: (got.append((m.topic, m.payload, m.qos)), arrived.set())
    listener.connect("127.0.0.1", broker.port)
    listener.subscribe("plant/#", qos=1)
    listener.loop_start()
    assert ready.wait(10)
    mqtt = open_sink(sink(f"mqtt://ann:p%40ss@127.0.0.1:{broker.port}/plant/alerts"))
    mqtt.deliver(delivery)
    assert arrived.wait(10)
    broker.stop()
    with pytest.raises(SinkError):
        mqtt.deliver(delivery)
    broker.start()
    mqtt.deliver(delivery)
    mqtt.close()
    listener.disconnect()
    listener.loop_stop()
    topic, payload, qos = got[0]
    assert (topic, qos) == ("plant/alerts", 1)
    assert json.loads(payload)["key"] == "a/1/7/defect:raised"


def test_mqtt_says_that_the_broker_refuses(broker: Broker, delivery: Delivery) -> None:
    mqtt = open_sink(sink(f"mqtt://ann:wrong@127.0.0.1:{broker.port}/plant"))
    with pytest.raises(SinkError, match="refuses: Not authorized"):
        mqtt.deliver(delivery)
    mqtt.close()


def test_mqtt_without_a_broker(delivery: Delivery) -> None:
    mqtt = open_sink(sink(f"mqtt://127.0.0.1:{free_port()}/plant"))
    with pytest.raises(SinkError, match="refused"):
        mqtt.deliver(delivery)
    mqtt.close()


def test_mqtt_with_somebody_who_never_answers(delivery: Delivery) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        mqtt = open_sink(sink(f"mqtt://127.0.0.1:{deaf.getsockname()[1]}/plant", timeout=0.2))
        with pytest.raises(SinkError, match=r"did not answer within 0\.2 s"):
            mqtt.deliver(delivery)
        mqtt.close()
