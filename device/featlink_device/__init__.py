"""What runs on the camera: capture, backbone, encoder, stream."""
