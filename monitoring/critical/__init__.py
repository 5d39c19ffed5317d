"""Critical days: when they are, what is in force now, and what that changes.

To read first: ``inforce.refresh``. Rules (``rules``, ``expanding``, ``icalevents``) are pure calendar arithmetic,
``effects`` says what a critical day does to a check's values, ``actions`` is what people do about it.
"""
