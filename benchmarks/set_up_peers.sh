#!/bin/sh
# Makes the environment of the peers that detectors.py runs: anomalib with OpenVINO, torch and torchvision.
#
#     sh benchmarks/set_up_peers.sh FOLDER
#
# It takes 7 GB where pip takes torch for GPUs. Versions are those that the figures in docs/benchmarks come from.
set -eu
[ $# -eq 1 ] || { echo "usage: sh benchmarks/set_up_peers.sh FOLDER" >&2; exit 2; }
python3 -m venv "$1"
"$1/bin/pip" install "anomalib[openvino]==2.7.0" "torch==2.15.0" "torchvision==0.29.2" \
  "openvino==2026.4.1" "onnx==1.23.2" "timm==1.0.31"
"$1/bin/pip" uninstall --yes openvino-telemetry # it reports conversions to a web service; OpenVINO does without it
"$1/bin/python" -c "import anomalib, onnx, openvino, torch, torchvision; torchvision.ops.nms" # they fit each other
