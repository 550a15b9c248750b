"""How gunicorn serves the stand-in."""

from pathlib import Path

chdir = str(Path(__file__).parent)
wsgi_app = "odin:create_app()"
bind = "0.0.0.0:5001"  # noqa: S104 (a container's port)
workers = 2
threads = 4
# The application is made once, before forking: one creation of the tables, and a wrong setting ends the server.
preload_app = True
# Docker kills what has not ended after ten seconds.
graceful_timeout = 8
accesslog = "-"
# %(U)s is the path without the query: a target token is a permission and stays out of the log.
access_log_format = '%(t)s %(h)s "%(m)s %(U)s" %(s)s %(B)s %(M)sms'
