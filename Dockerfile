# The server with the bundled miniature. Without TORCH_INDEX torch's default Linux build is installed, which brings CUDA;
# PyTorch's own installation page names the index of the much smaller CPU build.
#   docker build --build-arg TORCH_INDEX=… -t danqing .
#   docker run -p 8000:8000 -v danqing:/data --name danqing danqing
#   docker exec danqing danqing keys create me
FROM python:3.11-slim-bookworm
ARG TORCH_INDEX=
WORKDIR /app
COPY pyproject.toml README.md LICENSE Makefile ./
COPY locks locks
COPY tools tools
COPY src src
RUN PYTHON=python3 VENV=/venv TORCH=torch==2.13.0 TORCH_INDEX="$TORCH_INDEX" tools/setup.sh locks/user.txt \
 && useradd --create-home danqing && mkdir /data && chown danqing /data
USER danqing
ENV PATH=/venv/bin:$PATH DANQING_DATA=/data DANQING_HOST=0.0.0.0
VOLUME /data
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health')"]
CMD ["danqing", "serve"]
