"""`make demo`: wsmon against stand-in vendors on loopback that fail and recover on a script.

script.py    the story: who misbehaves how, and when
shapes.py    what each vendor answers, well and badly
vendors.py   the server: ``vendors.start()``
news.py      the vendors' own status pages, which admit trouble late
inbox.py     the chat and the phone that wsmon's messages go to, as a page
saturday.py  a critical day at will
wsmon.yaml   what the demo watches, and whom it tells
"""
