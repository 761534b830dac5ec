# Two targets: cpu (the default) and gpu, each with the one ONNX Runtime that fits it.
#   docker build -t roost .                     docker run --rm -p 127.0.0.1:8790:8790 -e ROOST_TOKEN=secret roost
#   docker build -t roost-gpu --target gpu .    docker run --rm --gpus all ... roost-gpu
# The stand-in's weights are fetched at the first start and kept in the volume.

FROM python:3.12-slim AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 ROOST_CACHE=/cache
WORKDIR /opt/roost
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY catalog catalog
COPY runtime runtime
COPY worker worker
COPY wrangler_compat wrangler_compat
RUN useradd --create-home --uid 10001 roost && mkdir /cache && chown roost /cache
VOLUME /cache
EXPOSE 8790
HEALTHCHECK --start-period=120s --interval=10s --timeout=3s \
    CMD ["python", "-c", "import httpx; httpx.get('http://127.0.0.1:8790/cdn-cgi/local/health').raise_for_status()"]
# Inside a container every address is the container's own; the token keeps others out.
ENTRYPOINT ["roost", "serve", "--host", "0.0.0.0", "--port", "8790"]

FROM base AS gpu
RUN pip install '.[gpu]'
USER roost

FROM base AS cpu
RUN pip install '.[cpu]'
USER roost
