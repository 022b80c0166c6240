# Training, with TensorFlow on the CPU: runs and policies go to /work.
#
#   docker build -f deploy/container/train.Dockerfile -t pgkeras-train .
#   docker run --user "$(id -u):$(id -g)" -v "$PWD:/work" pgkeras-train CartPole-v1
FROM python:3.12-slim
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY pgkeras pgkeras
COPY serving serving
RUN python -m venv /opt/pgkeras \
    && /opt/pgkeras/bin/pip install --no-cache-dir ".[serve,train]" -c constraints.txt \
    && useradd --system --uid 10001 --no-create-home pgkeras \
    && mkdir /work && chown pgkeras /work
USER 10001
WORKDIR /work
ENTRYPOINT ["/opt/pgkeras/bin/pgkeras", "train"]
