"""Pages of the monitoring room: ``overview`` (overview, wall, changes) and ``service``."""
