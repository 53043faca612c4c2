"""The mark of linewatch."""

from urllib.parse import quote

ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#14532d"/>'
    '<path d="M6 17h5l3-8 4 14 3-6h5" fill="none" stroke="#fff" stroke-width="2.6" stroke-linejoin="round"/></svg>'
)
ICON_URL = f"data:image/svg+xml,{quote(ICON)}"
