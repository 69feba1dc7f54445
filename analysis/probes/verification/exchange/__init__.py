"""Questions and networks for other verifiers: `vnnlib` (text, and back), `onnx_files`."""
