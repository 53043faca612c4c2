"""Run the alert service as a process of its own: serve.py '{"config": …, "rules": …, "storage": …}'."""

import json
import signal
import sys
import threading

from alerts.config import AlertRules, AlertsConfig
from alerts.service import AlertService
from storage.config import StorageConfig

told = json.loads(sys.argv[1])
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
service = AlertService(
    AlertsConfig.model_validate(told["config"]),
    {line: AlertRules.model_validate(rules) for line, rules in told["rules"].items()},
    StorageConfig.model_validate(told["storage"]),
)
sys.exit(service.run(stop))
