"""Programs outside of wsmon that use its breakers."""
