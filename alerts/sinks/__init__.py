"""Where alerts are delivered: log, webhook, MQTT. One file per sink."""
