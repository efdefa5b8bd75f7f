# docker build -t modernbert-nli . && docker run --rm -p 8000:8000 modernbert-nli
# The checkpoint of this repository on its embedded base: nothing is fetched once it is built.
FROM python:3.12-slim

WORKDIR /app
COPY . .
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
        --constraint constraints.txt --editable ".[serve]" \
    && useradd --create-home server
USER server
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health')"]
CMD ["modernbert-nli", "serve", "--host", "0.0.0.0"]
