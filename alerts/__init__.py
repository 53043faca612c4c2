"""From verdict to operator: pure rules, the alert service, sinks and the page. May import `storage` and `ingest`, never torch."""
