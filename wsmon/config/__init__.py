"""Configuration as code: wsmon.yaml in, the database out, and back.

``apply_file`` reads the file with its line numbers (``document``), lets the sections of
``settings.CONFIG_SECTIONS`` judge their parts (``section``; problems are told as in ``problems``, the
sentences for pydantic's errors stand in ``schema``), and carries out their plans in one transaction
(``applying``). ``export_text`` writes the present configuration in the same format.
"""

from wsmon.config.applying import Report, apply_file, export_text
from wsmon.config.problems import ConfigError, Problem

__all__ = ["ConfigError", "Problem", "Report", "apply_file", "export_text"]
