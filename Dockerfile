# yowo-deploy on a CPU, behind HTTP. This file was never built: no Docker was there to try it.
#
#   docker build -t yowo-deploy .
#   docker run --rm -p 127.0.0.1:8000:8000 -e YOWO_TOKEN=some-long-token yowo-deploy
FROM python:3.11-slim

RUN useradd --create-home --uid 10001 yowo
WORKDIR /srv/yowo
COPY . source
RUN pip install --no-cache-dir --constraint source/constraints.txt './source[openvino,serve]' && rm -r source

USER yowo
EXPOSE 8000
# The two health checks need no token.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=2)"]
# A container's own address is open to others: YOWO_TOKEN has to be set.
ENTRYPOINT ["yowo-deploy", "serve", "--host", "0.0.0.0"]
