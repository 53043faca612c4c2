"""The front door: command line, configuration, supervisor and demo. Imports every other package; nothing imports it."""
