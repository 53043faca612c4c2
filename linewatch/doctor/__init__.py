"""`linewatch doctor`: a file for each thing it looks at; `diagnose` asks them all, `checklist` shows what they say."""
