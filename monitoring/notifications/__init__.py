"""Telling people: few messages, in time, and none that is lost without a trace.

Read ``outbox`` first: what is to be told is written down in the transaction of what it tells of
(``routing`` decides to whom and when), claimed by a sender (``claims``; ``pacing`` decides how many go
singly), sent by ``channels``, and tried again, given to another channel or shown as undelivered.
"""
