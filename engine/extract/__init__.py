"""The extractor: an ONNX file that makes features of images, and ONNX Runtime's sessions that run it."""
