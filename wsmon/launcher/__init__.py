"""`manage.py run`: the whole of wsmon in one process. Read stack.py first.

ground.py        what must be free before anything starts: data directory, lock, port
database.py      the thread that owns the embedded PostgreSQL
first_start.py   migrations, first admin, bootstrap token, wsmon.yaml
background.py    the threads of the Celery worker and beat
web.py           uvicorn
stack.py         all of it, in order, and the same backwards
entry.py         manage.py: which of this a command needs
"""
