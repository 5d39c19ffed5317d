# wsmon for production: one image, three commands (web, worker, beat). See compose.yaml and README.
FROM python:3.13-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements/base.txt /tmp/base.txt
RUN python -m venv /opt/wsmon/.venv \
 && /opt/wsmon/.venv/bin/pip install --require-hashes -r /tmp/base.txt
COPY manage.py pyproject.toml README.md /opt/wsmon/
COPY wsmon /opt/wsmon/wsmon
COPY providers /opt/wsmon/providers
COPY monitoring /opt/wsmon/monitoring
COPY templates /opt/wsmon/templates
COPY static /opt/wsmon/static
WORKDIR /opt/wsmon
# Values for this one command only: nothing of them is kept in the image.
RUN WSMON_PRODUCTION=1 DATABASE_URL=postgres://build@localhost/build \
    WSMON_SECRET_KEY=build WSMON_ENCRYPTION_KEYS=build \
    .venv/bin/python manage.py collectstatic --noinput --verbosity 0 \
 && .venv/bin/python -m compileall -q wsmon providers monitoring

FROM python:3.13-slim-bookworm
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin wsmon
COPY --from=build /opt/wsmon /opt/wsmon
WORKDIR /opt/wsmon
ENV PATH=/opt/wsmon/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 WSMON_PRODUCTION=1
USER wsmon
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
CMD ["uvicorn", "wsmon.asgi:application", "--host", "0.0.0.0", "--port", "8000", "--lifespan", "off", "--ws", "none", \
     "--no-access-log", "--no-server-header", "--no-proxy-headers", "--timeout-graceful-shutdown", "5"]
