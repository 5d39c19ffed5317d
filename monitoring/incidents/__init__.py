"""Incidents: a service's time of not being healthy, whose fault it is, and what is done about it.

Read ``deciding`` first (when one opens, worsens, closes), then ``store`` (which writes it), ``evidence`` and
``verdict`` (us or them), ``actions`` (what people do).
"""
