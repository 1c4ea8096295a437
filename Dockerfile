# The command line with everything it needs, on the CPU: no build tools, no caches, no root.
#
#   docker build -t genrobust .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" genrobust bench --model jointvae
#
# With --user, results belong to who ran it, and the folder can be written whoever owns it.
# On a GPU: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126, and run with --gpus all.
FROM python:3.12-slim AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY constraints.txt /
# torch first, of the versions that are tested and from its own index: a build with a name such as
# 2.13.0+cpu goes before PyPI's, and nothing later fetches another one.
RUN pip install --no-cache-dir -c /constraints.txt torch torchvision --extra-index-url "$TORCH_INDEX"
COPY --from=build /wheels /wheels
# A home that any user can write: libraries keep fonts and caches there.
RUN pip install --no-cache-dir -c /constraints.txt /wheels/*.whl && rm -r /wheels \
    && useradd --create-home genrobust && chmod 1777 /home/genrobust \
    && mkdir /work && chown genrobust /work
ENV HOME=/home/genrobust
USER genrobust
WORKDIR /work
ENTRYPOINT ["genrobust"]
CMD ["--help"]
