"""Reports over a stretch of time: figures, downtime, events with pictures. Made of plain data; imports only storage."""
