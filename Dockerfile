# The command line with everything it needs, on the CPU: no build tools, no caches, no root.
#
#   docker build -t genrobust .
#   docker run --rm -v "$PWD:/work" genrobust bench --model jointvae
#
# On a GPU: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126, and run with --gpus all.
FROM python:3.12-slim AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# torch first and from its own index, so that nothing later fetches another build.
RUN pip install --no-cache-dir torch torchvision --index-url "$TORCH_INDEX"
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir /wheels/*.whl && rm -r /wheels \
    && useradd --create-home genrobust && mkdir /work && chown genrobust /work
USER genrobust
WORKDIR /work
ENTRYPOINT ["genrobust"]
CMD ["--help"]
