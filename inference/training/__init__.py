"""Fitting, calibrating and evaluating detectors. May import everything in `inference`, `ingest` and `storage`."""
