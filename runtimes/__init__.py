"""What a device needs: sessions, parity, latency, census, machine, bundle. Imports numpy and onnxruntime only."""
