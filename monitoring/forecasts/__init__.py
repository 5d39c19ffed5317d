"""Foretelling when a number crosses its limit, and holding what was said against what came.

trend.py      a robust line through noisy numbers, or none: pure
seasons.py    the usual course of a day, taken out before a line is sought: pure
expecting.py  from numbers and a limit to when it is crossed, at the earliest and at the latest: pure
promises.py   what becomes of a forecast once more is known: pure
sources.py    the numbers: response times, error budget, rate-limit headroom, certificates
running.py    ``run()``: forecasts made, renewed and settled, alerts raised and resolved
reads.py      what pages show: the line, the sentence, how often past ones were right
"""

from __future__ import annotations
