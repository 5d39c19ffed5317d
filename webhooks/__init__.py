"""Webhooks in both directions. Read ``inbound.py`` first: cap, verify, dedupe, store, acknowledge."""
