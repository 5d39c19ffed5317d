"""Signing in and out, passwords, and the optional second factor."""
