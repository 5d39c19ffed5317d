"""Rules: what wsmon looks for by itself and raises alerts about.

To read first: ``watch.run_due``. Each rule has a module of its own: ``look`` reads facts, a pure ``find`` makes
findings of them, and ``watch`` reconciles these with the alerts that are open. From when on something is found is
configured under ``alerts:`` of wsmon.yaml (``thresholds``). Other rooms add rules by ``settings.ALERT_RULES``.
"""
