# The demo in a container: scenes composed, three nets trained, weights exported, figures printed.
#   docker build -t mtcnn-training .
#   docker run --rm -v "$PWD/runs:/project/runs" mtcnn-training
# Any other target of the Makefile: docker run --rm mtcnn-training make test
FROM python:3.11-slim

# `make` runs everything; OpenCV's wheel loads the two libraries.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /project

# The environment first, so that a change of the code does not install it again.
COPY pyproject.toml constraints.txt README.md LICENSE Makefile ./
COPY mtcnn_detector mtcnn_detector
RUN CI=true make setup

COPY . .
CMD ["make", "demo"]
