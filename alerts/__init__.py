"""From verdict to operator: rules, alert service, sinks, page. May import `storage` and `ingest`, never torch."""
