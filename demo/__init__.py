"""`make demo`: wsmon against stand-in vendors on loopback that fail and recover on a script.

script.py    the story: who misbehaves how, and when
shapes.py    what each vendor answers, well and badly
vendors.py   the server: ``vendors.start()``
wsmon.yaml   the services that the demo watches
"""
