# A volunteer in a container: docker build -t zooswarm . && docker run --rm -v zooswarm:/home/zoo/data zooswarm join ADDRESS
# The first stage makes a wheel with the compiled engine; the second has no compiler, no PyTorch, and no root.
FROM python:3.13-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir build && ZOOSWARM_WHEEL_ENGINE=required python -m build --outdir /wheels

FROM python:3.13-slim
COPY --from=build /wheels/*.whl /source/constraints.txt /tmp/install/
RUN pip install --no-cache-dir -c /tmp/install/constraints.txt /tmp/install/*.whl \
    && pip install --no-cache-dir -c /tmp/install/constraints.txt --no-deps hivemind \
    && rm -r /tmp/install \
    && useradd --create-home zoo && install -d -o zoo -g zoo /home/zoo/data
USER zoo
WORKDIR /home/zoo
ENV ZOOSWARM_HOME=/home/zoo/data
VOLUME /home/zoo/data
ENTRYPOINT ["zooswarm"]
CMD ["--help"]
