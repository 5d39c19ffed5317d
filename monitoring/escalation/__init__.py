"""Escalation: who is told next while nobody acknowledges an alert, and who is on call.

To read first: ``running.run_due``. ``ladder`` decides what the next step is and ``turns`` whose turn it is, both
pure; ``oncall`` looks into the database for rotations. Policies and rotations are configured in wsmon.yaml
(``config``) or in the admin.
"""
