"""Services, checks, probes and their history: the first job of wsmon."""
