"""The webhooks room's pages."""
