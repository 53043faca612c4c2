"""Metrics for Prometheus: every queue, drop, retry and latency of a site, at one address.

May import storage and the alert service's own parts.
"""
