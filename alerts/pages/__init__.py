"""What an operator sees in the browser: one page, all its parts served from here."""
