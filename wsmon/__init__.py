"""wsmon, the project: settings, the site map, the one HTTP client, live updates, config as code."""

__version__ = "0.1.0"
